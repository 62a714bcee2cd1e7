//! Figures as Markdown, which `benches/measure` puts into docs/performance.md.

/// Prints a table.
pub fn print(head: &[&str], rows: &[impl AsRef<[String]>]) {
    println!("\n| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
    rows.iter().for_each(|row| println!("| {} |", row.as_ref().join(" | ")));
    println!();
}
