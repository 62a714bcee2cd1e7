//! CPA-Manager and CPA-Manager-Plus: the traps of their file, and their numbers against plain SQL.

mod differential;
mod relay;
