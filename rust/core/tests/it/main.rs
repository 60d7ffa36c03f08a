//! The data plane with real sockets: scripted servers behind it, scripted clients before it.

mod closing;
mod integrity;
mod listening;
mod reload;
mod rig;
mod selection;
mod shortage;
