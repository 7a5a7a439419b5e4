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
int watchfire_use(const watchfire_table *table, const void *name,
                  size_t name_bytes, uint64_t now_ns, int when_stale,
                  watchfire_answer *answer);
typedef struct watchfire_name {
    const void *bytes;
    size_t length;
} watchfire_name;
typedef struct watchfire_rule {
    uint32_t at_least;
    uint8_t share_percent;
    uint8_t when_stale;
    uint16_t reserved;
} watchfire_rule;
int watchfire_pool(const watchfire_table *table, const watchfire_name *names,
                   size_t count, uint64_t now_ns, const watchfire_rule *rule,
                   uint8_t *usages);
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
    DEGRADED = 8,
    DO_NOT_USE = 0,
    TRY_LAST = 1,
    USE = 2,
}

-- What a stale table means, by name.
local WHEN_STALE = { static = 0, open = 1 }

-- A pool's names and its rule, as the library wants them. `handle` gives the
-- table at a time, or nil while there is none.
local function new_pool(lib, handle, names, rule)
    local count = #names
    local list = ffi.new("watchfire_name[?]", math.max(count, 1))
    for i = 1, count do
        list[i - 1].bytes = ffi.cast("const char *", names[i])
        list[i - 1].length = #names[i]
    end
    local asked = ffi.new("watchfire_rule", {
        rule.at_least or 0, rule.share_percent or 0,
        WHEN_STALE[rule.when_stale or "static"], 0 })
    local usages = ffi.new("uint8_t[?]", math.max(count, 1))
    local look = lib.watchfire_pool
    -- Keeps the strings that the list points to.
    local pool = { names = names }

    -- What to do with each origin now, from 0 on: USE, TRY_LAST or DO_NOT_USE;
    -- and whether the pool is in panic. The next look overwrites it.
    function pool.look(now_ns)
        return usages, look(handle(now_ns), list, count, now_ns, asked, usages) == 1
    end

    return pool
end

-- From one try to open a table that is not there to the next, nanoseconds.
local RETRY_NS = 1000000000

-- Like open, for a proxy that may start before its agent: until the table is
-- there every name is "not in table", nothing is fresh, and all are used. It is tried again
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

    function waiting.lookup(name, now_ns)
        if not is_open(now_ns) then
            return _M.NOT_IN_TABLE, nothing
        end
        return opened.lookup(name, now_ns)
    end

    function waiting.use(name, now_ns, when_stale)
        if not is_open(now_ns) then
            return _M.USE
        end
        return opened.use(name, now_ns, when_stale)
    end

    function waiting.pool(names, rule)
        return new_pool(lib, function(now_ns)
            return is_open(now_ns) and opened.handle or nil
        end, names, rule)
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
    local lookup, use = lib.watchfire_lookup, lib.watchfire_use
    local opened = { handle = handle }

    -- CLOCK_MONOTONIC in nanoseconds; read it once per request.
    function opened.now_ns()
        return lib.watchfire_now_ns()
    end

    -- The verdict of an origin, and the full answer, which the next lookup
    -- overwrites.
    function opened.lookup(name, now_ns)
        return lookup(handle, name, #name, now_ns, answer), answer
    end

    -- What to do with one origin: USE, TRY_LAST or DO_NOT_USE. when_stale is
    -- "static" (the last verdicts hold) or "open" (all are used).
    function opened.use(name, now_ns, when_stale)
        return use(handle, name, #name, now_ns, WHEN_STALE[when_stale or "static"], nil)
    end

    -- A pool of origins by their names, and its rule: { at_least = n,
    -- share_percent = n, when_stale = "static" or "open" }; watchfire.h says
    -- what they mean. Made once, looked at for each request.
    function opened.pool(names, rule)
        return new_pool(lib, function() return handle end, names, rule)
    end

    -- A reason in words.
    function opened.reason(code)
        return ffi.string(lib.watchfire_reason(code))
    end

    return opened
end

return _M
