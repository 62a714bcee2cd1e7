//! A new-api's log of any length.

use chrono::Utc;

use super::super::database::Db;

const REQUESTS_PER_DAY: u64 = 100_000;
/// Rows of one statement that fills the log.
const CHUNK: u64 = 500_000;

/// A row of 500 bytes, as the relay writes it, for each `n`.
const ROW: &str = r#"insert into logs (created_at, type, user_id, username, token_id, token_name, channel_id, model_name, quota,
    prompt_tokens, completion_tokens, use_time, is_stream, "group", request_id, content, other)
  select {now} - ({rows} - n) * 86400 / {per_day}, case when n % 50 = 0 then 5 else 2 end, 1 + n % 3, 'alice', 1 + n % 3,
    'two', 1 + n % 3, 'gpt-4o', n % 9000, 1000, 200, 4, true, 'default', 'invented',
    '模型倍率 1.25，补全倍率 4.00，分组倍率 1.00', '{"admin_info":{"use_channel":["1"]},"cache_ratio":0.5,"cache_tokens":600,"completion_ratio":4,"error_type":"openai_error","frt":105,"group_ratio":1,"model_price":-1,"model_ratio":1.25,"status_code":500,"stream_status":{"end_reason":"done","status":"ok"},"user_group_ratio":-1}'
  from {series}"#;

/// Rows evenly over the past, the last of them now.
pub async fn fill(db: &mut Db, rows: u64) {
    if matches!(db, Db::Sqlite(_)) {
        db.run("pragma synchronous = off").await;
    }
    let now = Utc::now().timestamp();
    for first in (1..=rows).step_by(CHUNK as usize) {
        let last = rows.min(first + CHUNK - 1);
        let series = match db {
            Db::Postgres(_) => format!("generate_series({first}::bigint, {last}) n"),
            Db::MySql(_) => format!("(select seq as n from seq_{first}_to_{last}) s"),
            Db::Sqlite(_) => {
                format!(
                    "(with recursive s(n) as (select {first} union all select n + 1 from s where n < {last}) select n from s)"
                )
            }
        };
        let row = ROW.replace("\"group\"", &db.quoted("group")).replace("{series}", &series);
        let numbers =
            [("{now}", now.to_string()), ("{rows}", rows.to_string()), ("{per_day}", REQUESTS_PER_DAY.to_string())];
        // Whole numbers, also in MySQL.
        let row = row.replace(
            " * 86400 / {per_day}",
            if matches!(db, Db::MySql(_)) { " * 86400 div {per_day}" } else { " * 86400 / {per_day}" },
        );
        db.run(&numbers.into_iter().fold(row, |row, (name, number)| row.replace(name, &number))).await;
    }
    if let Db::Postgres(_) = db {
        db.run("vacuum analyze logs").await;
    }
}
