//! The AsyncAPI 3 document, generated from the topic table and the event types.
