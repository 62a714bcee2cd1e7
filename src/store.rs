pub const FORMAT: i64 = 1;
