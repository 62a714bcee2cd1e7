//! The relays' numbers in words.

use super::Family;

/// The type of a channel; where it has no name here, its number.
pub(super) fn channel_type(family: Family, number: i64) -> String {
    let (shared, own) = (SHARED, if family == Family::NewApi { NEW_API } else { ONE_API });
    // What is one program's own goes before what both have.
    let named = own.iter().chain(shared).find(|(it, _)| *it == number);
    named.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

/// The role of a user, which both have.
pub(super) fn role(number: i64) -> String {
    match number {
        1 => "user".to_owned(),
        10 => "admin".to_owned(),
        100 => "root".to_owned(),
        _ => number.to_string(),
    }
}

const SHARED: &[(i64, &str)] = &[
    (1, "openai"),
    (3, "azure"),
    (6, "openaimax"),
    (7, "ohmygpt"),
    (8, "custom"),
    (10, "aiproxy"),
    (11, "palm"),
    (12, "api2gpt"),
    (13, "aigc2d"),
    (14, "anthropic"),
    (15, "baidu"),
    (16, "zhipu"),
    (17, "ali"),
    (18, "xunfei"),
    (19, "ai360"),
    (20, "openrouter"),
    (22, "fastgpt"),
    (23, "tencent"),
    (24, "gemini"),
    (25, "moonshot"),
    (31, "lingyiwanwu"),
    (33, "aws"),
];

/// 2026-08 `constant/channel.go`. Forks give numbers above these to channels of their own.
const NEW_API: &[(i64, &str)] = &[
    (2, "midjourney"),
    (4, "ollama"),
    (5, "midjourney-plus"),
    (26, "zhipu-v4"),
    (27, "perplexity"),
    (34, "cohere"),
    (35, "minimax"),
    (36, "suno"),
    (37, "dify"),
    (38, "jina"),
    (39, "cloudflare"),
    (40, "siliconflow"),
    (41, "vertex"),
    (42, "mistral"),
    (43, "deepseek"),
    (44, "mokaai"),
    (45, "volcengine"),
    (46, "baidu-v2"),
    (47, "xinference"),
    (48, "xai"),
    (49, "coze"),
    (50, "kling"),
    (51, "jimeng"),
    (52, "vidu"),
    (53, "submodel"),
    (54, "doubao-video"),
    (55, "sora"),
    (56, "replicate"),
    (57, "codex"),
];

/// v0.6.11 `relay/channeltype/define.go`.
const ONE_API: &[(i64, &str)] = &[
    (2, "api2d"),
    (26, "baichuan"),
    (27, "minimax"),
    (28, "mistral"),
    (29, "groq"),
    (30, "ollama"),
    (32, "stepfun"),
    (34, "coze"),
    (35, "cohere"),
    (36, "deepseek"),
    (37, "cloudflare"),
    (38, "deepl"),
    (39, "togetherai"),
    (40, "doubao"),
    (41, "novita"),
    (42, "vertex"),
    (43, "proxy"),
    (44, "siliconflow"),
    (45, "xai"),
    (46, "replicate"),
    (47, "baidu-v2"),
    (48, "xunfei-v2"),
    (49, "ali-bailian"),
    (50, "openai-compatible"),
    (51, "gemini-openai-compatible"),
];
