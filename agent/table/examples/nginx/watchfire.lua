-- Watchfire's table in nginx: the few functions of watchfire.h that a proxy
-- wants, through LuaJIT's FFI.
--
-- Every read goes through a C call on purpose. LuaJIT hoists plain loads from
-- mapped memory out of compiled loops, even `volatile` ones, so a retry loop
-- written in Lua would never see the writer's change.

local ffi = require "ffi"

ffi.cdef [[
typedef struct watchfire_table watchfire_table;
typedef struct watchfire_answer {
    uint64_t since_ms;
    uint64_t owner;
    uint64_t age_ns;
    uint32_t latency_us;
    uint8_t verdict;
    uint8_t flags;
    uint8_t reason;
    uint8_t fresh;
} watchfire_answer;
int watchfire_open(const char *path, watchfire_table **table, char *error,
                   size_t error_bytes);
void watchfire_close(watchfire_table *table);
int watchfire_lookup(const watchfire_table *table, const void *name,
                     size_t name_bytes, uint64_t now_ns,
                     watchfire_answer *answer);
int watchfire_lookup_hashed(const watchfire_table *table, uint64_t hash,
                            const void *name, size_t name_bytes,
                            uint64_t now_ns, watchfire_answer *answer);
uint64_t watchfire_hash(const void *name, size_t name_bytes);
const char *watchfire_reason(uint8_t reason);
uint64_t watchfire_now_ns(void);
]]

local _M = {
    UNKNOWN = 0,
    UP = 1,
    DOWN = 2,
    DRAINING = 3,
    NOT_IN_TABLE = 4,
    BUSY = 5,
}

local Table = {}
Table.__index = Table

-- Opens the table at a path; nil and what to do on failure. Call it once per
-- worker, in init_worker_by_lua.
function _M.open(path, library)
    local lib = ffi.load(library or "watchfire_table")
    local handle = ffi.new("watchfire_table *[1]")
    local message = ffi.new("char[512]")
    if lib.watchfire_open(path, handle, message, 512) ~= 0 then
        return nil, ffi.string(message)
    end
    return setmetatable({
        lib = lib,
        handle = ffi.gc(handle[0], lib.watchfire_close),
        answer = ffi.new("watchfire_answer"),
    }, Table)
end

-- CLOCK_MONOTONIC in nanoseconds; read it once per request.
function Table:now_ns()
    return self.lib.watchfire_now_ns()
end

-- The verdict of an origin, and the full answer, which the next lookup
-- overwrites.
function Table:lookup(name, now_ns)
    local answer = self.answer
    return self.lib.watchfire_lookup(self.handle, name, #name, now_ns, answer), answer
end

-- The hash of a name, for lookup_hashed. A pool computes it once per origin.
function Table:hash(name)
    return self.lib.watchfire_hash(name, #name)
end

-- The same as lookup, for a name whose hash is known.
function Table:lookup_hashed(hash, name, now_ns)
    local answer = self.answer
    return self.lib.watchfire_lookup_hashed(
        self.handle, hash, name, #name, now_ns, answer), answer
end

-- A reason in words.
function Table:reason(code)
    return ffi.string(self.lib.watchfire_reason(code))
end

return _M
