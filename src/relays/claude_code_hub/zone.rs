//! Where the relay's days begin.

use chrono_tz::{TZ_VARIANTS, Tz};

use crate::relay::plan::RelayPlan;

/// The relay's choice of a time zone: its setting, else its `TZ` (v0.9.2 `src/lib/utils/timezone.ts`), which cannot be
/// seen from outside.
#[derive(Clone, Copy)]
pub(crate) struct Zones {
    configured: Option<Tz>,
    fallback: Tz,
}

/// What a zone was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// `timezone` of the configuration.
    Configuration,
    Setting,
    /// `timezone_fallback`: the relay's setting is empty.
    Nothing,
    /// `timezone_fallback`: the relay's setting is no zone that is known here.
    Unknown,
}

impl From {
    /// In words, for people.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Configuration => "`timezone` of the configuration",
            Self::Setting => "the relay's settings",
            Self::Nothing => "`timezone_fallback`: the relay's setting is empty",
            Self::Unknown => "`timezone_fallback`: the relay's setting is no known zone; set `timezone`",
        }
    }
}

impl Zones {
    pub(crate) fn of(plan: &RelayPlan) -> Self {
        Self { configured: plan.timezone, fallback: plan.timezone_fallback }
    }

    /// The zone for what stands in the relay's settings, and where it came from.
    pub(crate) fn choose(self, setting: Option<&str>) -> (Tz, From) {
        if let Some(zone) = self.configured {
            return (zone, From::Configuration);
        }
        match setting.filter(|name| !name.is_empty()) {
            None => (self.fallback, From::Nothing),
            Some(name) => zone(name).map_or((self.fallback, From::Unknown), |zone| (zone, From::Setting)),
        }
    }
}

/// A zone as the relay takes it (`Intl.DateTimeFormat`): a name in any case, or an offset.
///
/// The relay's screens let PostgreSQL find the days, which reads `+08:00` as POSIX does: eight hours *west* of Greenwich.
/// An offset of whole hours alone has a name of that meaning, `Etc/GMT+8`.
fn zone(name: &str) -> Option<Tz> {
    let named = |name: &str| TZ_VARIANTS.iter().copied().find(|zone| zone.name().eq_ignore_ascii_case(name));
    named(name).or_else(|| {
        let (sign, digits) = (name.get(..1)?, name.get(1..)?);
        let (hours, minutes) = digits.split_once(':').unwrap_or((digits, ""));
        let hours: u8 = hours.parse().ok()?;
        let is_whole = ["", "00"].contains(&minutes) && ["+", "-"].contains(&sign);
        is_whole.then(|| if hours == 0 { Some(Tz::UTC) } else { named(&format!("Etc/GMT{sign}{hours}")) })?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_taken_as_the_relay_takes_it() {
        let zones = Zones { configured: None, fallback: Tz::UTC };
        for (setting, zone, from) in [
            ("Asia/Shanghai", "Asia/Shanghai", From::Setting),
            ("asia/shanghai", "Asia/Shanghai", From::Setting),
            ("+08:00", "Etc/GMT+8", From::Setting),
            ("-03", "Etc/GMT-3", From::Setting),
            ("+00:00", "UTC", From::Setting),
            ("+05:30", "UTC", From::Unknown),
            ("+0800", "UTC", From::Unknown),
            ("Asia/Peking", "UTC", From::Unknown),
            ("+é", "UTC", From::Unknown),
            ("", "UTC", From::Nothing),
        ] {
            let (chosen, source) = zones.choose(Some(setting));
            assert_eq!((chosen.name(), source), (zone, from), "{setting}");
        }
    }
}
