use crate::demo::{DemoOptions, Environment};

pub(super) async fn set_up(_: DemoOptions) -> anyhow::Result<Environment> {
    anyhow::bail!("not yet")
}
