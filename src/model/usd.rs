//! Money.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use serde::{Deserialize, Serialize};

/// Money in US dollars, exact to 10^-15: a sum does not depend on the order of its terms.
///
/// 10^-15 is the scale of Claude Code Hub's `numeric(21,15)`, the finest of the relays.
// Aligned as the numbers beside it are, an amount takes no room but its own: there are hundreds of thousands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(Rust, packed(8))]
pub struct Usd(i128);

impl Usd {
    /// No money.
    pub const ZERO: Self = Self(0);
    const SCALE: u32 = 15;

    /// From a count of 10^-15 dollars.
    pub const fn from_femto(femto: i128) -> Self {
        Self(femto)
    }

    /// The count of 10^-15 dollars.
    pub const fn femto(self) -> i128 {
        self.0
    }

    /// From a decimal; digits beyond the fifteenth decimal place are cut.
    pub fn from_decimal(value: rust_decimal::Decimal) -> Self {
        let mantissa = value.mantissa();
        Self(match Self::SCALE.checked_sub(value.scale()) {
            Some(up) => mantissa.saturating_mul(10_i128.pow(up)),
            None => mantissa / 10_i128.pow(value.scale() - Self::SCALE),
        })
    }

    /// From a float; `None` when it is not finite.
    pub fn from_f64(value: f64) -> Option<Self> {
        value.is_finite().then(|| Self((value * 1e15).round() as i128))
    }

    /// The float that is nearest to the amount in dollars, for a sample.
    pub fn to_f64(self) -> f64 {
        const UNIT: u128 = 10_u128.pow(Usd::SCALE);
        let femto = self.0.unsigned_abs();
        if femto == 0 {
            return 0.0;
        }
        // A quotient of more bits than a float has, the last of which tells of what is left: it is rounded once.
        let shift = femto.leading_zeros();
        let shifted = femto << shift;
        let quotient = (shifted / UNIT) | u128::from(!shifted.is_multiple_of(UNIT));
        (quotient as f64 / (1_u128 << shift) as f64).copysign(self.0 as f64)
    }

    /// More than nothing.
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }
}

impl Add for Usd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Usd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Usd {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Usd {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.fold(Self::ZERO, Add::add)
    }
}
