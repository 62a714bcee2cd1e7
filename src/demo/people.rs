//! Who and what takes part: users, keys, providers, models and their prices. All names are invented.

use serde_json::{Value, json};

/// Which of the large families of models, and so which kind of upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Claude,
    Gpt,
    Gemini,
}

impl Family {
    /// The relay's `api_type`.
    pub(crate) const fn api_type(self) -> &'static str {
        match self {
            Self::Claude => "chat",
            Self::Gpt => "codex",
            Self::Gemini => "gemini",
        }
    }
}

/// Prices in 10^-12 USD per token, that is micro-dollars per million tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Price {
    pub input: i128,
    pub output: i128,
    pub cache_read: i128,
    pub cache_write_5m: i128,
    pub cache_write_1h: i128,
}

/// A price list in USD per million tokens times 1000: input, output, cache read.
const fn price(input: i128, output: i128, cache_read: i128) -> Option<Price> {
    Some(Price {
        input: input * 1000,
        output: output * 1000,
        cache_read: cache_read * 1000,
        cache_write_5m: input * 1250,
        cache_write_1h: input * 2000,
    })
}

impl Price {
    /// `model_prices.price_data`, USD per token.
    pub(crate) fn data(&self, family: Family) -> Value {
        let usd = |pico: i128| pico as f64 / 1e12;
        let mut data = json!({
            "mode": "chat",
            "input_cost_per_token": usd(self.input),
            "output_cost_per_token": usd(self.output),
            "cache_read_input_token_cost": usd(self.cache_read),
        });
        if family == Family::Claude {
            data["cache_creation_input_token_cost"] = usd(self.cache_write_5m).into();
            data["cache_creation_input_token_cost_above_1hr"] = usd(self.cache_write_1h).into();
        }
        data
    }
}

#[derive(Debug)]
pub(crate) struct Model {
    pub name: &'static str,
    pub family: Family,
    pub share: u32,
    /// `None`: the relay has no price, so that requests cost nothing.
    pub price: Option<Price>,
}

const fn model(name: &'static str, family: Family, share: u32, price: Option<Price>) -> Model {
    Model { name, family, share, price }
}

pub(crate) const MODELS: &[Model] = &[
    model("claude-sonnet-4-5-20250929", Family::Claude, 340, price(3000, 15000, 300)),
    model("claude-opus-4-5-20251101", Family::Claude, 170, price(5000, 25000, 500)),
    model("claude-haiku-4-5-20251001", Family::Claude, 120, price(1000, 5000, 100)),
    model("claude-opus-4-1-20250805", Family::Claude, 25, price(15000, 75000, 1500)),
    model("claude-sonnet-4-20250514", Family::Claude, 40, price(3000, 15000, 300)),
    model("gpt-5.1-codex", Family::Gpt, 130, price(1250, 10000, 125)),
    model("gpt-5", Family::Gpt, 50, price(1250, 10000, 125)),
    model("gpt-5-mini", Family::Gpt, 35, price(250, 2000, 25)),
    model("gemini-2.5-pro", Family::Gemini, 45, price(1250, 10000, 125)),
    model("gemini-2.5-flash", Family::Gemini, 35, price(300, 2500, 30)),
    model("gemini-3-pro-preview", Family::Gemini, 8, None),
];

/// The model of the cost surge.
pub(crate) const SURGE_MODEL: &Model = &MODELS[3];

/// Spending limits in whole USD. A relay enforces them, so they are such that the default traffic stays within.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub five_hours: Option<i32>,
    pub five_hours_fixed: bool,
    pub daily: Option<i32>,
    pub daily_rolling: bool,
    pub daily_at: &'static str,
    pub weekly: Option<i32>,
    pub monthly: Option<i32>,
    pub total: Option<i32>,
    pub sessions: Option<i32>,
}

const FREE: Limits = Limits {
    five_hours: None,
    five_hours_fixed: false,
    daily: None,
    daily_rolling: false,
    daily_at: "00:00",
    weekly: None,
    monthly: None,
    total: None,
    sessions: None,
};

#[derive(Debug)]
pub(crate) struct User {
    pub id: i32,
    pub name: &'static str,
    pub role: &'static str,
    pub share: u32,
    pub enabled: bool,
    /// Deleted so many days ago.
    pub deleted: Option<i64>,
    /// Limits start anew since so many days.
    pub cost_reset: Option<i64>,
    /// Days until the account expires.
    pub expires: Option<i64>,
    pub rpm: Option<i32>,
    pub limits: Limits,
}

const fn user(id: i32, name: &'static str, share: u32, limits: Limits) -> User {
    User {
        id,
        name,
        role: "user",
        share,
        enabled: true,
        deleted: None,
        cost_reset: None,
        expires: None,
        rpm: None,
        limits,
    }
}

pub(crate) const USERS: &[User] = &[
    User { role: "admin", ..user(1, "admin", 40, FREE) },
    User {
        rpm: Some(60),
        ..user(2, "chen.wei", 200, Limits { daily: Some(80), daily_at: "09:00", monthly: Some(1100), ..FREE })
    },
    user(3, "李娜", 150, Limits { five_hours: Some(40), five_hours_fixed: true, weekly: Some(220), ..FREE }),
    user(4, "zhang.min", 120, Limits { daily: Some(40), daily_rolling: true, total: Some(700), ..FREE }),
    user(5, "alice", 110, Limits { monthly: Some(800), sessions: Some(8), ..FREE }),
    User { cost_reset: Some(3), ..user(6, "bob", 90, Limits { weekly: Some(120), total: Some(400), ..FREE }) },
    user(7, "王芳", 80, Limits { daily: Some(32), ..FREE }),
    User { rpm: Some(20), ..user(8, "carol", 60, Limits { weekly: Some(80), monthly: Some(300), ..FREE }) },
    user(9, "liu.yang", 50, Limits { daily: Some(25), daily_at: "09:00", ..FREE }),
    User { expires: Some(20), ..user(10, "diego", 35, FREE) },
    user(11, "ci-bot", 45, Limits { five_hours: Some(20), daily: Some(30), monthly: Some(280), ..FREE }),
    User { enabled: false, ..user(12, "intern", 0, Limits { total: Some(20), ..FREE }) },
    User { deleted: Some(11), ..user(13, "sunita", 70, FREE) },
];

/// The user of the cost surge.
pub(crate) const SURGE_USER: &User = &USERS[4];

#[derive(Debug)]
pub(crate) struct Key {
    pub id: i32,
    pub user: i32,
    pub name: &'static str,
    pub share: u32,
    pub enabled: bool,
    pub deleted: bool,
    /// Days until it expires; negative when it has.
    pub expires: Option<i64>,
    /// The key whose secret it has: the relay has no unique constraint on secrets.
    pub secret_of: i32,
    pub limits: Limits,
}

const fn key(id: i32, user: i32, name: &'static str, share: u32) -> Key {
    Key { id, user, name, share, enabled: true, deleted: false, expires: None, secret_of: id, limits: FREE }
}

impl Key {
    pub(crate) fn secret(&self) -> String {
        // Spread over the digits, so that it looks like one; it opens nothing.
        format!("sk-{:032x}", (self.secret_of as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
    }
}

pub(crate) const KEYS: &[Key] = &[
    key(1, 1, "console", 1),
    Key { limits: Limits { daily: Some(65), weekly: Some(220), ..FREE }, ..key(2, 2, "laptop", 7) },
    key(3, 2, "desktop", 3),
    key(4, 3, "laptop", 6),
    Key { limits: Limits { five_hours: Some(25), five_hours_fixed: true, ..FREE }, ..key(5, 3, "agent", 4) },
    Key { limits: Limits { daily: Some(40), daily_at: "09:00", ..FREE }, ..key(6, 4, "work", 1) },
    key(7, 5, "macbook", 8),
    Key { expires: Some(5), ..key(8, 5, "server", 2) },
    Key { limits: Limits { monthly: Some(500), ..FREE }, ..key(9, 6, "default", 1) },
    Key { limits: Limits { daily: Some(30), daily_rolling: true, ..FREE }, ..key(10, 7, "default", 1) },
    key(11, 8, "default", 1),
    Key { limits: Limits { total: Some(300), ..FREE }, ..key(12, 9, "default", 1) },
    key(13, 10, "default", 1),
    Key { limits: Limits { five_hours: Some(16), sessions: Some(4), ..FREE }, ..key(14, 11, "pipeline", 3) },
    Key { expires: Some(40), ..key(15, 11, "nightly", 1) },
    key(16, 12, "trial", 0),
    key(17, 13, "default", 1),
    Key { deleted: true, secret_of: 2, ..key(18, 2, "old-laptop", 0) },
    Key { enabled: false, expires: Some(-9), ..key(19, 4, "spring", 0) },
];

#[derive(Debug)]
pub(crate) struct Provider {
    pub id: i32,
    pub name: &'static str,
    pub kind: &'static str,
    pub family: Family,
    pub group: &'static str,
    pub share: u32,
    /// In 10^-4.
    pub multiplier: i32,
    pub enabled: bool,
    pub deleted: bool,
    /// Without traffic since so many days.
    pub retired: Option<i64>,
    /// The total limit starts anew since so many days.
    pub total_reset: Option<i64>,
    pub limits: Limits,
}

const fn provider(id: i32, name: &'static str, kind: &'static str, family: Family, share: u32) -> Provider {
    Provider {
        id,
        name,
        kind,
        family,
        group: "default",
        share,
        multiplier: 10_000,
        enabled: true,
        deleted: false,
        retired: None,
        total_reset: None,
        limits: FREE,
    }
}

pub(crate) const PROVIDERS: &[Provider] = &[
    Provider {
        group: "default,premium",
        limits: Limits { sessions: Some(24), daily: Some(150), monthly: Some(3000), ..FREE },
        ..provider(1, "anthropic-main", "claude", Family::Claude, 40)
    },
    Provider {
        multiplier: 11_000,
        limits: Limits { sessions: Some(12), five_hours: Some(40), ..FREE },
        ..provider(2, "claude-backup", "claude-auth", Family::Claude, 15)
    },
    Provider {
        multiplier: 6_000,
        limits: Limits { sessions: Some(20), five_hours: Some(50), five_hours_fixed: true, weekly: Some(300), ..FREE },
        ..provider(3, "pool-hongkong", "claude", Family::Claude, 30)
    },
    Provider { group: "premium", ..provider(4, "bedrock-west", "claude", Family::Claude, 15) },
    Provider {
        limits: Limits { sessions: Some(10), daily: Some(40), daily_rolling: true, ..FREE },
        ..provider(5, "codex-team", "codex", Family::Gpt, 60)
    },
    Provider {
        multiplier: 5_000,
        total_reset: Some(8),
        limits: Limits { sessions: Some(6), total: Some(500), ..FREE },
        ..provider(6, "codex-pool", "codex", Family::Gpt, 40)
    },
    Provider {
        limits: Limits { sessions: Some(6), daily: Some(25), daily_at: "16:00", ..FREE },
        ..provider(7, "ai-studio", "gemini", Family::Gemini, 1)
    },
    Provider { enabled: false, retired: Some(9), ..provider(8, "vertex-eu", "gemini-cli", Family::Gemini, 1) },
    Provider { deleted: true, retired: Some(18), ..provider(9, "old-mirror", "claude", Family::Claude, 20) },
];

/// The provider that fails in the planted outage.
pub(crate) const OUTAGE_PROVIDER: &Provider = &PROVIDERS[2];
