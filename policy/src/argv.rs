//! Argv shapes of `[[proc.command]] args`: which argument lists a command may be given (T-07).

/// One allowed argument list. A list must match from its first element to its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgvShape {
    elements: Vec<Element>,
    /// True where the shape ends in `**`.
    rest: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Element {
    Exactly(String),
    Any,
}

/// Why a shape was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgvShapeError {
    #[error("`**` stands for the rest of the arguments and must be the last element")]
    RestNotLast,
    #[error("`{0}` mixes `*` with other characters; only `*` (one argument) and `**` (the rest) are patterns")]
    MixedPattern(String),
    #[error("an argument cannot hold a NUL character")]
    Nul,
}

impl ArgvShape {
    pub fn parse<'a>(elements: impl IntoIterator<Item = &'a str>) -> Result<ArgvShape, ArgvShapeError> {
        let mut shape = ArgvShape { elements: Vec::new(), rest: false };
        for element in elements {
            if shape.rest {
                return Err(ArgvShapeError::RestNotLast);
            }
            match element {
                "**" => shape.rest = true,
                "*" => shape.elements.push(Element::Any),
                // Someone who writes `--out=*` means a pattern; taken as a literal it would never match, in silence.
                text if text.contains('*') => {
                    return Err(ArgvShapeError::MixedPattern(text.chars().take(80).collect()));
                }
                text if text.contains('\0') => return Err(ArgvShapeError::Nul),
                text => shape.elements.push(Element::Exactly(text.to_owned())),
            }
        }
        Ok(shape)
    }

    /// Any arguments at all, as `--allow-proc` grants.
    pub fn anything() -> ArgvShape {
        ArgvShape { elements: Vec::new(), rest: true }
    }

    pub fn matches(&self, args: &[&str]) -> bool {
        let Some((first, rest)) = args.split_at_checked(self.elements.len()) else {
            return false;
        };
        (self.rest || rest.is_empty())
            && self.elements.iter().zip(first).all(|(element, arg)| match element {
                Element::Any => true,
                Element::Exactly(text) => text == arg,
            })
    }

    /// The elements as they are written in a policy.
    pub fn texts(&self) -> Vec<String> {
        let each = self.elements.iter().map(|element| match element {
            Element::Any => "*".to_owned(),
            Element::Exactly(text) => text.clone(),
        });
        each.chain(self.rest.then(|| "**".to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(elements: &[&str]) -> ArgvShape {
        ArgvShape::parse(elements.iter().copied()).unwrap()
    }

    #[test]
    fn a_shape_matches_the_whole_list_only() {
        let fmt = shape(&["fmt", "--check"]);
        assert!(fmt.matches(&["fmt", "--check"]));
        for refused in [&["fmt"][..], &["fmt", "--check", "--all"], &["--check", "fmt"], &["x", "fmt", "--check"], &[]]
        {
            assert!(!fmt.matches(refused), "{refused:?}");
        }
    }

    #[test]
    fn one_star_is_one_argument_two_stars_are_the_rest() {
        let one = shape(&["add", "*"]);
        assert!(one.matches(&["add", "--anything at all"]));
        assert!(!one.matches(&["add"]));
        assert!(!one.matches(&["add", "a", "b"]));
        let rest = shape(&["test", "**"]);
        assert!(rest.matches(&["test"]));
        assert!(rest.matches(&["test", "a", "b"]));
        assert!(!rest.matches(&["build", "a"]));
        assert!(ArgvShape::anything().matches(&[]) && ArgvShape::anything().matches(&["x", "y"]));
    }

    #[test]
    fn an_empty_shape_is_no_argument() {
        assert!(shape(&[]).matches(&[]));
        assert!(!shape(&[]).matches(&[""]));
    }

    #[test]
    fn shapes_that_would_not_do_what_they_seem_to() {
        assert_eq!(ArgvShape::parse(["**", "x"]), Err(ArgvShapeError::RestNotLast));
        assert!(matches!(ArgvShape::parse(["--out=*"]), Err(ArgvShapeError::MixedPattern(_))));
        assert!(matches!(ArgvShape::parse(["***"]), Err(ArgvShapeError::MixedPattern(_))));
        assert_eq!(ArgvShape::parse(["a\0"]), Err(ArgvShapeError::Nul));
    }

    #[test]
    fn a_shape_is_written_as_it_was_read() {
        for elements in [&["test", "*", "**"][..], &[], &["**"]] {
            assert_eq!(shape(elements).texts(), elements);
        }
    }
}
