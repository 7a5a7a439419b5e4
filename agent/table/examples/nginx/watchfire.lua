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

-- From one try to open a table that is not there to the next, nanoseconds.
local RETRY_NS = 1000000000

-- Like open, for a proxy that may start before its agent: until the table is
-- there every name is "not in table" and nothing is fresh. It is tried again
-- once a second, by the lookups themselves; `problem` says what kept it from
-- being opened, and nil once it is. Fails only where the library does not load.
function _M.open_when_there(path, library)
    local lib = ffi.load(library or "watchfire_table")
    local nothing = ffi.new("watchfire_answer")
    local waiting = {}
    local opened, next_try

    local function is_open(now_ns)
        if opened then
            return true
        end
        if next_try and now_ns < next_try then
            return false
        end
        next_try = now_ns + RETRY_NS
        opened, waiting.problem = _M.open(path, library)
        return opened ~= nil
    end

    function waiting.now_ns()
        return lib.watchfire_now_ns()
    end

    function waiting.hash(name)
        return lib.watchfire_hash(name, #name)
    end

    function waiting.lookup(name, now_ns)
        if not is_open(now_ns) then
            return _M.NOT_IN_TABLE, nothing
        end
        return opened.lookup(name, now_ns)
    end

    function waiting.lookup_hashed(hash, name, now_ns)
        if not is_open(now_ns) then
            return _M.NOT_IN_TABLE, nothing
        end
        return opened.lookup_hashed(hash, name, now_ns)
    end

    function waiting.reason(code)
        return ffi.string(lib.watchfire_reason(code))
    end

    is_open(lib.watchfire_now_ns())
    return waiting
end

-- Opens the table at a path; nil and what to do on failure. Call it once per
-- worker, in init_worker_by_lua.
function _M.open(path, library)
    local lib = ffi.load(library or "watchfire_table")
    local out = ffi.new("watchfire_table *[1]")
    local message = ffi.new("char[512]")
    if lib.watchfire_open(path, out, message, 512) ~= 0 then
        return nil, ffi.string(message)
    end

    -- Locals that are never assigned again: compiled code takes them as
    -- constants.
    local handle = ffi.gc(out[0], lib.watchfire_close)
    local answer = ffi.new("watchfire_answer")
    local lookup, lookup_hashed = lib.watchfire_lookup, lib.watchfire_lookup_hashed
    local opened = {}

    -- CLOCK_MONOTONIC in nanoseconds; read it once per request.
    function opened.now_ns()
        return lib.watchfire_now_ns()
    end

    -- The verdict of an origin, and the full answer, which the next lookup
    -- overwrites.
    function opened.lookup(name, now_ns)
        return lookup(handle, name, #name, now_ns, answer), answer
    end

    -- The hash of a name, for lookup_hashed. A pool computes it once per
    -- origin.
    function opened.hash(name)
        return lib.watchfire_hash(name, #name)
    end

    -- The same as lookup, for a name whose hash is known.
    function opened.lookup_hashed(hash, name, now_ns)
        return lookup_hashed(handle, hash, name, #name, now_ns, answer), answer
    end

    -- A reason in words.
    function opened.reason(code)
        return ffi.string(lib.watchfire_reason(code))
    end

    return opened
end

return _M
