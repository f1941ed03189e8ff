//! What an event must say to be about a task at all.

use atelier_schemas::{envelope::image_id, events::ImageContext, request::MAX_IMAGES_PER_TASK};

pub(super) fn check_image_count(count: usize) -> Result<(), String> {
    if (1..=MAX_IMAGES_PER_TASK).contains(&count) {
        Ok(())
    } else {
        Err(format!(
            "a task has 1 to {MAX_IMAGES_PER_TASK} images, not {count}"
        ))
    }
}

pub(super) fn check_context(image: &ImageContext) -> Result<(), String> {
    check_image_count(image.image_count as usize)?;
    if image.index >= image.image_count {
        return Err(format!(
            "image {} of {} is none of them",
            image.index, image.image_count
        ));
    }
    let expected = image_id(image.task_id, image.index);
    if image.image_id != expected {
        return Err(format!(
            "image {} has the id {expected}, not {}",
            image.index, image.image_id
        ));
    }
    Ok(())
}
