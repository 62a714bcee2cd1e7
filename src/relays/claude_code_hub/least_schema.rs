//! The least schema of Claude Code Hub, for tests and the demo only: never applied to a relay's database.

/// Each step with the release that brought it, in order.
pub const STEPS: [(&str, &str); 10] = [
    ("v0.3.31", include_str!("least_schema/0001_v0.3.31.sql")),
    ("v0.3.37", include_str!("least_schema/0002_v0.3.37.sql")),
    ("v0.3.42", include_str!("least_schema/0003_v0.3.42.sql")),
    ("v0.5.2", include_str!("least_schema/0004_v0.5.2.sql")),
    ("v0.5.9", include_str!("least_schema/0005_v0.5.9.sql")),
    ("v0.6.5", include_str!("least_schema/0006_v0.6.5.sql")),
    ("v0.6.7", include_str!("least_schema/0007_v0.6.7.sql")),
    ("v0.7.1", include_str!("least_schema/0008_v0.7.1.sql")),
    ("v0.8.5", include_str!("least_schema/0009_v0.8.5.sql")),
    ("v0.9.0", include_str!("least_schema/0010_v0.9.0.sql")),
];

/// The scripts, each of several statements, that build the schema of a release such as `v0.9.2`, in order.
///
/// Empty for a release before v0.3.31 or a text that is no release.
pub fn least_schema(release: &str) -> Vec<&'static str> {
    let Some(wanted) = number(release) else { return Vec::new() };
    STEPS.iter().filter(|(step, _)| number(step).is_some_and(|n| n <= wanted)).map(|(_, sql)| *sql).collect()
}

fn number(release: &str) -> Option<[u32; 3]> {
    let mut parts = release.strip_prefix('v')?.split('.').map(|part| part.parse().ok());
    let number = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_the_steps_up_to_it() {
        let counts = ["v0.3.31", "v0.5.8", "v0.5.9", "v0.8.10", "v0.9.2"].map(|release| least_schema(release).len());
        assert_eq!(counts, [1, 4, 5, 9, 10]);
        assert_eq!(least_schema("0.9.2"), Vec::<&str>::new());
    }
}
