//! URLs that list several hosts, as PostgreSQL's own do: `scheme://user:password@one:1,two:2/path?parameters`.

/// One URL for each host, in the order of the list.
pub fn each(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return vec![url.to_owned()] };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // What stands before the last @ is user and password.
    let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    hosts.split(',').map(|host| format!("{scheme}://{user}{host}{tail}")).collect()
}

/// Whether a URL's password was written as it is, with a `/`, `?` or `#` in it: that ends the host early, and the rest of
/// the password and the true host look like a path, a parameter or a fragment.
pub fn hides_password(url: &url::Url) -> bool {
    let after_host = [Some(url.path()), url.query(), url.fragment()];
    url.fragment().is_some() || after_host.into_iter().flatten().any(|part| part.contains('@'))
}
