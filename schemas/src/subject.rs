//! What of a picture is its subject, where several things or people stand out.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::placement::{Region, as_text};

/// Which of the people and things that stand out are the subject.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum SubjectChoice {
    /// All of them.
    #[default]
    All,
    /// The most prominent one, by size and place, with what it holds.
    Main,
    /// Those of which most lies in this rectangle, whole. Nothing is cut at its edge; `roi` does that.
    Within(Region),
}

as_text!(
    SubjectChoice,
    "^(all|main|[0-9.]+(px|%)?( [0-9.]+(px|%)?){3})$",
    "What is the subject, where several people or things stand out: `all`, `main` (the most prominent one) or those of which most lies in a rectangle `x1 y1 x2 y2`, each in pixels (`30px`) or as a share of the upright picture's width or height (`10%`). People who touch are told apart; bags and held things belong to their person."
);

impl SubjectChoice {
    /// Whether everything that stands out is the subject.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }
}

impl FromStr for SubjectChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "main" => Ok(Self::Main),
            _ => match text.parse() {
                Ok(region) => Ok(Self::Within(region)),
                Err(reason) => Err(format!(
                    "`{text}` is no subject: write all, main, or a rectangle ({reason})"
                )),
            },
        }
    }
}

impl fmt::Display for SubjectChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("all"),
            Self::Main => formatter.write_str("main"),
            Self::Within(region) => region.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["all", "main", "10% 0% 50% 100%", "1px 2px 30px 40px"] {
            let choice: SubjectChoice = text.parse().unwrap();
            assert_eq!(choice.to_string(), text);
        }
        assert!(SubjectChoice::default().is_all());
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_to_write() {
        for text in ["", "both", "1 2 3", "50% 0% 10% 100%", "-1 0 5 5"] {
            let reason = text.parse::<SubjectChoice>().unwrap_err();
            assert!(reason.contains("write all, main"), "{reason}");
        }
    }
}
