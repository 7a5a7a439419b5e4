//! Probing without IO: check definitions, exchanges as state machines, health, schedule.
