//! Loading and saving, the same statements for both databases.

/// Defines `read` and `write` for a connection, given the statements that begin a transaction.
macro_rules! checkpoints {
    ($connection:ty, $begin_read:expr, $begin_write:expr) => {
        async fn read(
            connection: &mut $connection,
            owner: &$crate::store::Owner,
        ) -> Result<Option<$crate::store::Stored>, sqlx::Error> {
            use futures_util::TryStreamExt;
            use sqlx::{Connection, Row};
            let mut transaction = connection.begin_with($begin_read).await?;
            let query = sqlx::query(include_str!("sql/checkpoint.sql")).bind(&owner.relay).bind(owner.kind);
            let Some(row) = query.fetch_optional(&mut *transaction).await? else {
                // Dropped, it would be ended before the next statement, which may be long in coming.
                transaction.rollback().await?;
                return Ok(None);
            };
            let query = sqlx::query(include_str!("sql/parts.sql")).bind(&owner.relay).bind(owner.kind);
            let mut parts = Vec::new();
            // One by one: a row that has been read has its bytes twice.
            let mut rows = query.fetch(&mut *transaction);
            while let Some(row) = rows.try_next().await? {
                parts.push((row.try_get("key")?, row.try_get("bytes")?, row.try_get("checksum")?));
            }
            drop(rows);
            transaction.rollback().await?;
            Ok(Some($crate::store::Stored {
                generation: row.try_get("generation")?,
                format: row.try_get("format")?,
                count: row.try_get("parts")?,
                parts,
            }))
        }

        /// The new generation; `None` when another process has saved since [`Changes::after`].
        async fn write(
            connection: &mut $connection,
            owner: &$crate::store::Owner,
            changes: &$crate::store::Changes,
        ) -> Result<Option<i64>, sqlx::Error> {
            use sqlx::{Connection, Row};
            let (relay, kind) = (&owner.relay, owner.kind);
            let mut transaction = connection.begin_with($begin_write).await?;
            let begin = match changes.after {
                Some(_) => sqlx::query(include_str!("sql/follow.sql")),
                None => sqlx::query(include_str!("sql/replace.sql")),
            };
            let begin = begin.bind(relay).bind(kind).bind($crate::store::FORMAT).bind(changes.parts as i64);
            let mut begin = begin.bind(chrono::Utc::now().timestamp());
            if let Some(generation) = changes.after {
                begin = begin.bind(generation);
            }
            let Some(row) = begin.fetch_optional(&mut *transaction).await? else {
                transaction.rollback().await?;
                return Ok(None);
            };
            let generation = row.try_get("generation")?;
            if changes.after.is_none() {
                let clear = sqlx::query(include_str!("sql/clear.sql"));
                clear.bind(relay).bind(kind).execute(&mut *transaction).await?;
            }
            for key in &changes.remove {
                let remove = sqlx::query(include_str!("sql/remove.sql"));
                remove.bind(relay).bind(kind).bind(key).execute(&mut *transaction).await?;
            }
            for (key, bytes) in &changes.put {
                let bytes = bytes.get();
                let checksum = $crate::store::checksum(key, &bytes).to_vec();
                let put = sqlx::query(include_str!("sql/put.sql")).bind(relay).bind(kind).bind(key);
                put.bind(&bytes[..]).bind(checksum).execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
            Ok(Some(generation))
        }
    };
}

pub(super) use checkpoints;
