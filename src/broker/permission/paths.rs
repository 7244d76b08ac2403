//! Namespaces by the form of a channel's name: `/users/:id` is that of `/users/7`.

/// The forms of the configuration, the more definite ones first.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    forms: Vec<Form>,
}

#[derive(Clone, Debug)]
struct Form {
    /// `None`: any, but something.
    segments: Vec<Option<Box<str>>>,
    namespace: usize,
}

impl Form {
    fn matches(&self, path: &str) -> bool {
        let mut given = path.split('/').skip(1);
        let all = self.segments.iter().all(|segment| match (segment, given.next()) {
            (Some(fixed), Some(given)) => **fixed == *given,
            (None, Some(given)) => !given.is_empty(),
            (_, None) => false,
        });
        all && given.next().is_none()
    }
}

impl Paths {
    /// Forms with the number of the namespace each stands for.
    pub fn new<'a>(forms: impl Iterator<Item = (&'a str, usize)>) -> Self {
        let variable = |segment: &str| segment.starts_with(':');
        let segment = |it: &str| (!variable(it)).then(|| it.into());
        let form = |(form, namespace): (&str, usize)| Form {
            segments: form.split('/').skip(1).map(segment).collect(),
            namespace,
        };
        let mut forms: Vec<_> = forms.map(form).collect();
        forms.sort_by_key(|form| form.segments.iter().map(Option::is_none).collect::<Vec<_>>());
        Self { forms }
    }

    /// The namespace of `path`, which begins with a slash.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<usize> {
        self.forms.iter().find(|form| form.matches(path)).map(|form| form.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_definite_form_counts() {
        let forms = ["/users/:id", "/users/me", "/:any/me", "/:kind/:a/:b", "/:kind/x/:b", "/a"];
        let paths = Paths::new(forms.into_iter().enumerate().map(|(at, form)| (form, at)));
        for (path, want) in [
            ("/users/7", Some(0)),
            ("/users/me", Some(1)),
            ("/rooms/me", Some(2)),
            ("/a/b/c", Some(3)),
            ("/a/x/c", Some(4)),
            ("/a", Some(5)),
            ("/users/", None),
            ("/users", None),
            ("/users/7/", None),
            ("/users//7", None),
            ("/", None),
            ("//a/b", None),
        ] {
            assert_eq!(paths.find(path), want, "{path}");
        }
    }
}
