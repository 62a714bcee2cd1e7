//! The relay products that can be read: one folder each, and their only list.

pub mod claude_code_hub;
pub mod claude_relay_service;
pub mod cpa_manager;
pub mod gemini_balance;
pub mod litellm;
pub mod new_api;
#[cfg(test)]
mod stub;
pub mod sub2api;

use crate::relay::Product;

/// The relay products that can be read: the only list.
pub static PRODUCTS: &[&Product] = &[
    &claude_code_hub::PRODUCT,
    &claude_relay_service::PRODUCT,
    &cpa_manager::PRODUCT,
    &gemini_balance::PRODUCT,
    &litellm::PRODUCT,
    &new_api::NEW_API,
    &new_api::ONE_API,
    &sub2api::PRODUCT,
    #[cfg(test)]
    &stub::PRODUCT,
];
