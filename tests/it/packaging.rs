//! What is written beside the code is true of it: commands, links, metric names, mounts.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use llm_relay_exporter::metrics::CATALOGUE;
use regex::Regex;

use crate::structure::files;

const READMES: [&str; 2] = ["README.md", "README.zh-CN.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn exporter(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter")).args(arguments).output().unwrap()
}

/// All pages for people.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = READMES.iter().map(PathBuf::from).collect();
    pages.extend(["CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from));
    let docs =
        fs::read_dir(root().join("docs")).unwrap().map(|entry| Path::new("docs").join(entry.unwrap().file_name()));
    pages.extend(docs.filter(|page| page.extension().is_some_and(|extension| extension == "md")));
    pages
}

/// The alerts about the exporter are about one job: of another they would say that there is none, and silence the rest.
#[test]
fn every_job_that_a_page_shows_is_that_of_the_alerts() {
    let name = Regex::new(r"job_name: *([A-Za-z-]+)").unwrap();
    let shown: Vec<_> = pages()
        .iter()
        .flat_map(|page| {
            let text = text(page);
            name.captures_iter(&text).map(|found| (page.clone(), found[1].to_owned())).collect::<Vec<_>>()
        })
        .collect();
    assert!(shown.len() > 3, "{shown:?}");
    assert!(shown.iter().all(|(_, job)| job == "llm-relay"), "{shown:?}");
}

/// Fenced blocks, each with its language in the first line, and the lines outside of them.
fn split_fences(markdown: &str) -> (Vec<String>, Vec<&str>) {
    let (mut blocks, mut prose) = (Vec::new(), Vec::new());
    let mut block: Option<String> = None;
    for line in markdown.lines() {
        match (line.trim_start().strip_prefix("```"), block.take()) {
            (Some(language), None) => block = Some(format!("{language}\n")),
            (Some(_), Some(done)) => blocks.push(done),
            (None, Some(begun)) => block = Some(begun + line.trim_start() + "\n"),
            (None, None) => prose.push(line),
        }
    }
    assert_eq!(block, None, "a fence does not end");
    (blocks, prose)
}

/// A line without its inline code.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Targets of the links of a page.
fn links(markdown: &str) -> Vec<String> {
    let (_, prose) = split_fences(markdown);
    let prose: String = prose.iter().map(|line| without_code(line) + "\n").collect();
    prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchors that a page's headings get on GitHub.
fn anchors(markdown: &str) -> HashSet<String> {
    let mut anchors = HashSet::new();
    for heading in split_fences(markdown).1.iter().filter(|line| line.starts_with('#')) {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let slug: String = title.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect();
        let again = (1..).map(|n| format!("{slug}-{n}"));
        let free = std::iter::once(slug.clone()).chain(again).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

#[test]
fn links_and_anchors_resolve() {
    let mut broken = Vec::new();
    for page in pages() {
        for link in links(&text(&page)) {
            if link.starts_with("http://") || link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').map_or((&*link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found =
                root().join(&target).exists() && anchor.is_none_or(|anchor| anchors(&text(&target)).contains(anchor));
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn both_readmes_show_the_same_commands_and_queries() {
    let [english, chinese] = READMES.map(|readme| split_fences(&text(readme)).0);
    assert_eq!(english, chinese);
    assert_eq!(english[0], "sh\ncargo run --release -- demo\n");
    assert_eq!(english[1], "sh\ntests/run\n");
}

#[test]
fn the_scripts_of_the_readme_can_be_run() {
    for script in ["tests/run", ".ci/run"] {
        let mode = fs::metadata(root().join(script)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script} cannot be run");
        let syntax = Command::new("bash").arg("-n").arg(root().join(script)).output().unwrap();
        assert!(syntax.status.success(), "{script}: {}", String::from_utf8_lossy(&syntax.stderr));
    }
}

#[test]
fn manual_and_completions_know_every_command() {
    let manual = tempfile::tempdir().unwrap();
    assert!(exporter(&["man", "--out", manual.path().to_str().unwrap()]).status.success());
    let page = fs::read_to_string(manual.path().join("llm-relay-exporter.1")).unwrap();
    let help = exporter(&["--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(["demo", "check", "simulate"].iter().all(|it| commands.contains(it)), "{help}");
    for command in commands {
        assert!(manual.path().join(format!("llm-relay-exporter-{command}.1")).exists(), "{command} has no page");
        assert!(page.contains(&format!("llm\\-relay\\-exporter\\-{}(1)", command.replace('-', "\\-"))), "{command}");
        for shell in ["bash", "fish", "zsh"] {
            let completions = exporter(&["completions", shell]);
            assert!(String::from_utf8(completions.stdout).unwrap().contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn every_metric_that_a_page_names_exists() {
    let names: HashSet<&str> = CATALOGUE.iter().map(|metric| metric.name).collect();
    let known = |word: &str, whole: bool| {
        let parts = ["_bucket", "_sum", "_count"];
        let base = parts.iter().find_map(|part| word.strip_suffix(part)).unwrap_or(word);
        names.contains(word) || names.contains(base) || (!whole && names.iter().any(|name| name.starts_with(word)))
    };
    let mut unknown = Vec::new();
    for page in ["README.md", "README.zh-CN.md", "docs/relays.md", "docs/operations.md"] {
        let text = text(page);
        for (at, _) in text.match_indices("llm_relay_") {
            let rest = &text[at..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            // The role's name is none; a star stands for a family.
            if word != "llm_relay_exporter" && !known(word, !after.starts_with('*')) {
                unknown.push(format!("{page}: {word}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// The services of the compose file with their text.
fn services(compose: &str) -> Vec<(&str, String)> {
    let mut services: Vec<(&str, String)> = Vec::new();
    let section = compose.lines().skip_while(|line| *line != "services:").skip(1);
    for line in section.take_while(|line| line.is_empty() || line.starts_with([' ', '#'])) {
        let name = line.strip_prefix("  ").and_then(|line| line.strip_suffix(':'));
        match (name.filter(|name| !name.starts_with([' ', '#'])), services.last_mut()) {
            (Some(name), _) => services.push((name, String::new())),
            (None, Some((_, text))) => *text = format!("{text}{}\n", line.trim()),
            (None, None) => {}
        }
    }
    services
}

#[test]
fn every_service_is_pinned_hardened_and_on_loopback() {
    let compose = text("docker-compose.yml");
    let services = services(&compose);
    assert!(services.len() >= 5, "{services:?}");
    for (name, service) in &services {
        let value = |key: &str| service.lines().find_map(|line| line.strip_prefix(key));
        let image = value("image: ").unwrap_or_else(|| panic!("{name} has no image"));
        let tag = image.split_once(':').unwrap_or_else(|| panic!("{image} has no tag")).1;
        assert!(tag.contains('.'), "{name}: {image} floats");
        assert!(service.contains("<<: *hardened"), "{name} is not hardened");
        assert!(value("user: ").is_some_and(|user| !user.starts_with("\"0")), "{name} runs as root");
        assert!(service.contains("healthcheck:") || *name == "demo-simulator", "{name} has no health check");
        if let Some(ports) = value("ports: ") {
            assert!(ports.starts_with("[\"127.0.0.1:"), "{name} listens beyond loopback: {ports}");
        }
    }
    let version = env!("CARGO_PKG_VERSION");
    assert!(compose.contains(&format!("image: llm-relay-exporter:{version}\n")), "the image is not of {version}");
}

#[test]
fn every_file_that_compose_mounts_exists() {
    let compose = text("docker-compose.yml");
    let demo = text("deploy/compose/demo.env");
    let demo_secrets = demo.lines().find_map(|line| line.strip_prefix("LLM_RELAY_SECRETS=")).unwrap();
    let mounts = compose.lines().filter_map(|line| line.trim().strip_prefix("- ./")?.split(':').next());
    let secrets = compose.lines().filter_map(|line| {
        let (_, rest) = line.split_once("file: \"${LLM_RELAY_SECRETS:-./deploy/secrets}")?;
        Some(format!("{demo_secrets}{}", rest.split('"').next()?))
    });
    let files: Vec<String> = mounts.map(str::to_owned).chain(secrets).collect();
    assert!(files.len() >= 9, "{files:?}");
    for file in files {
        assert!(root().join(&file).exists(), "{file} is mounted but not there");
    }
}

#[test]
fn the_image_is_built_with_every_file_that_the_program_includes() {
    let ignored = text(".dockerignore");
    let kept: Vec<_> = ignored.lines().filter_map(|line| Some(root().join(line.strip_prefix('!')?))).collect();
    let include = Regex::new(r#"include_(?:str|bytes)!\(\s*"([^"]+)""#).unwrap();
    for file in files("src") {
        for path in include.captures_iter(&text(&file)) {
            let path = file.parent().unwrap().join(&path[1]).canonicalize().unwrap();
            assert!(kept.iter().any(|it| path.starts_with(it)), "{} is not for Docker to see", path.display());
        }
    }
}

#[test]
fn prometheus_in_compose_is_configured_like_the_example() {
    let settings = |path: &str| -> Vec<String> {
        let text = text(path);
        let lines =
            text.lines().map(|line| line.split_once('#').map_or(line, |(before, _)| before).trim_end().to_owned());
        lines.filter(|line| !line.is_empty()).collect()
    };
    let named =
        |line: &String| line.replace("127.0.0.1:9093", "alertmanager:9093").replace("127.0.0.1:9879", "exporter:9879");
    let example: Vec<String> = settings("prometheus/prometheus.yml").iter().map(named).collect();
    assert_eq!(settings("deploy/compose/prometheus.yml"), example);
}

#[test]
fn prometheus_accepts_the_queries_of_the_readme() {
    let (blocks, _) = split_fences(&text(READMES[0]));
    let queries: Vec<&str> = blocks.iter().filter_map(|block| block.strip_prefix("promql\n")).collect();
    assert!(queries.len() >= 5);
    let rules =
        queries.iter().enumerate().map(|(n, query)| serde_json::json!({"record": format!("q{n}"), "expr": query}));
    let groups = serde_json::json!({"groups": [{"name": "readme", "rules": rules.collect::<Vec<_>>()}]});
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yml");
    fs::write(&file, groups.to_string()).unwrap();
    let output = Command::new("promtool").args(["check", "rules"]).arg(&file).output();
    let output = output.expect("promtool is missing; tests/run installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
