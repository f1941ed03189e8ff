//! What an `s3://` URL says.

use std::fmt;

use url::Url;

/// Where on a server blobs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The bucket.
    pub(crate) bucket: String,
    /// What every key begins with: nothing, or ends with `/`.
    pub(crate) prefix: String,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.prefix.trim_end_matches('/');
        match prefix {
            "" => write!(formatter, "s3://{}", self.bucket),
            prefix => write!(formatter, "s3://{}/{prefix}", self.bucket),
        }
    }
}

/// Whether `text` is meant for S3 at all.
pub(crate) fn is_s3(text: &str) -> bool {
    text.split_once(':')
        .is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("s3"))
}

/// The bucket and the prefix that `text` names: `s3://bucket` or `s3://bucket/prefix`.
///
/// # Errors
/// What is wrong with it, without what may be a secret.
pub(crate) fn parse(text: &str) -> Result<Address, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "credentials do not belong in it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
                .to_owned(),
        );
    }
    if url.port().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(
            "it has more than a bucket and a prefix; the server's address is `stores.blobs.s3.endpoint`"
                .to_owned(),
        );
    }
    let bucket = url.host_str().unwrap_or_default();
    let is_name = (3..=63).contains(&bucket.len())
        && bucket
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'));
    if !is_name {
        return Err(format!(
            "`{bucket}` is no name of a bucket (3 to 63 of a-z, 0-9, `.` and `-`)"
        ));
    }
    let mut prefix = String::new();
    for part in url.path().split('/').filter(|part| !part.is_empty()) {
        let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=+".contains(&byte);
        if !part.bytes().all(harmless) {
            return Err(format!(
                "the prefix may have letters, digits and `- _ . = + /`, not `{part}`"
            ));
        }
        prefix.push_str(part);
        prefix.push('/');
    }
    Ok(Address {
        bucket: bucket.to_owned(),
        prefix,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_and_a_prefix_are_read() {
        for (text, bucket, prefix, shown) in [
            ("s3://shop", "shop", "", "s3://shop"),
            ("s3://shop/", "shop", "", "s3://shop"),
            ("S3://shop/a/b", "shop", "a/b/", "s3://shop/a/b"),
            ("s3://my.shop-1//a/", "my.shop-1", "a/", "s3://my.shop-1/a"),
        ] {
            assert!(is_s3(text));
            let address = parse(text).unwrap();
            assert_eq!((&*address.bucket, &*address.prefix), (bucket, prefix));
            assert_eq!(address.to_string(), shown);
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_secrets() {
        for (text, expected) in [
            ("s3://key:s3cret@shop/a", "AWS_SECRET_ACCESS_KEY"),
            ("s3://shop:9000/a", "stores.blobs.s3.endpoint"),
            ("s3://shop/a?region=x", "stores.blobs.s3.endpoint"),
            ("s3:///a", "no name of a bucket"),
            ("s3://Shop", "`Shop` is no name of a bucket"),
            ("s3://shop/a b", "the prefix"),
            ("s3:shop", "no name of a bucket"),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(
                refused.contains(expected) && !refused.contains("s3cret"),
                "{text}: {refused}"
            );
        }
    }
}
