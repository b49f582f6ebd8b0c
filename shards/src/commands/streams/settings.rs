//! What a stream remembers of its producers.

use super::Call;
use crate::error::CommandResult;

pub(super) fn xcfgset(_call: &mut Call<'_>) -> CommandResult {
    Ok(())
}
