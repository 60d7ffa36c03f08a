//! What a process of another version left: flows whose tables only their own program understands,
//! which goes on with them. Keys, places and the first counter are the same in every version.

use std::fmt;
use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray};

use crate::layout::{Key, Place};
use crate::tables::{Counter, TABLES};

/// The tables of another version, as far as they can be read.
pub struct Earlier {
    /// What servers say, by its keys.
    servers: Vec<Key>,
    counters: PerCpuArray<MapData, u64>,
}

impl Earlier {
    /// What is pinned in a folder.
    ///
    /// # Errors
    /// What the kernel says; it isn't as in this version.
    pub fn open(pins: &Path) -> Result<Self, MapError> {
        let [places, .., counters] = TABLES;
        let table = |name| Map::from_map_data(MapData::from_pin(pins.join(name))?);
        let places: HashMap<_, [u8; Key::SIZE], [u8; Place::SIZE]> = table(places)?.try_into()?;
        let mut servers = vec![];
        for entry in places.iter() {
            let (key, place) = entry?;
            if Place::from_bytes(&place).side == 1 {
                servers.push(Key::from_bytes(&key));
            }
        }
        Ok(Self {
            servers,
            counters: table(counters)?.try_into()?,
        })
    }

    /// What servers say, by its keys: one for each flow.
    #[must_use]
    pub fn servers(&self) -> &[Key] {
        &self.servers
    }

    /// Segments that it has carried.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn carried(&self) -> Result<u64, MapError> {
        let values = self.counters.get(&(Counter::Rewritten as u32), 0)?;
        Ok(values.iter().sum())
    }
}

impl fmt::Debug for Earlier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.servers.fmt(formatter)
    }
}
