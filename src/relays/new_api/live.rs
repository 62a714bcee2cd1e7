//! Channels as they are now, and the sizes of a SQLite file.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::channel::{Channel, channels};
use super::directory::Store;
use super::row::moment;
use crate::model::{AccountTest, Balance, Directory, Live, ReadError};
use crate::relay::LiveState;

pub(super) struct LiveReader {
    main: Arc<Mutex<Store>>,
}

impl LiveReader {
    pub(super) fn new(main: Arc<Mutex<Store>>) -> Self {
        Self { main }
    }
}

#[async_trait]
impl LiveState for LiveReader {
    async fn read(&mut self, _: &Directory) -> Result<Live, ReadError> {
        let mut main = self.main.lock().await;
        let (mut session, schema) = main.session().await?;
        let read = channels(&mut session, &schema).await;
        let channels = main.end(session, read).await?;
        let mut live = Live { database_bytes: main.database.sizes(), ..Live::default() };
        channels.iter().for_each(|channel| tell(channel, &mut live));
        Ok(live)
    }
}

fn tell(channel: &Channel, live: &mut Live) {
    let id = || channel.id.into();
    live.accounts.extend(channel.state().map(|state| (id(), state)));
    if let Some((amount, at)) = channel.balance
        && let Some(told_at) = moment(at)
    {
        live.balances.push(Balance { provider_id: id(), amount, told_at });
    }
    if let Some((duration_ms, at)) = channel.test
        && let Some(at) = moment(at)
    {
        live.tests.push(AccountTest { provider_id: id(), duration_ms, at });
    }
    if let Some(keys) = channel.keys {
        live.account_keys.extend(keys.by_state().map(|(state, keys)| (id(), state, keys)));
    }
}
