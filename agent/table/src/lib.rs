//! The shared-memory table: layout, writer, reader and C ABI.
