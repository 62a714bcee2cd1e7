//! The relays of the demo: each product that can run on this machine.

use super::Product;
use crate::demo::{DemoOptions, Environment};
use crate::servers::ServerError;

/// Sets up every product that can run here, one after the other; says on stderr which cannot, and why. Dropping the future
/// leaves nothing behind.
///
/// # Errors
/// When one that can run here does not start.
pub async fn set_up(
    options: &DemoOptions,
    products: &[&'static Product],
) -> anyhow::Result<Vec<(&'static Product, Environment)>> {
    let mut environments = Vec::new();
    for &product in products {
        match (product.demo)(options.clone()).await {
            Ok(environment) => environments.push((product, environment)),
            Err(error) if error.downcast_ref().is_some_and(ServerError::is_missing) => {
                eprintln!("no {} in this demo: {error}", product.label);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(environments)
}
