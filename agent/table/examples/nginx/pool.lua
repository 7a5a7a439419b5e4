-- A pool of origins balanced by the table: what each verdict means for a
-- request is decided here, not in the table.
--
--   up             used; a fresh one gets its share slowly (slow start)
--   down           not used
--   draining       not used, not even in panic: it is the operator's wish
--   unknown,       used: nobody says that it is bad
--   not in table
--   busy           as it was at the last request
--
-- Panic: with fewer usable origins than `panic_below` of the pool, all are
-- used. When nearly everything is down, the fault is rarely the origins', and
-- the few that are left would not stand the load.
--
-- Without a table (the agent has never run) every origin is used.
--
-- A stale table (the agent is dead or stopped) is the pool's choice:
--   when_stale = "static"   go on by the last verdicts
--   when_stale = "open"     use every origin until the agent is back

local watchfire = require "watchfire"

local Pool = {}
Pool.__index = Pool

-- servers: a list of { name = "origin's name", host = "address", port = n }.
function Pool.new(table_, servers, options)
    for i = 1, #servers do
        servers[i].hash = table_.hash(servers[i].name)
    end
    return setmetatable({
        table = table_,
        servers = servers,
        weights = {},
        panic_below = options.panic_below or 0.5,
        slow_start_ms = options.slow_start_ms or 0,
        when_stale = options.when_stale or "static",
    }, Pool)
end

-- What an origin's share is that has been up since then: a tenth at first,
-- then growing evenly.
local function slow_start(self, since_ms, now_ms)
    local up_ms = now_ms - since_ms
    if up_ms >= self.slow_start_ms then
        return 1
    end
    return math.max(0.1, up_ms / self.slow_start_ms)
end

-- An origin's share of the requests, zero to one.
local function weigh(self, server, now_ns, now_ms)
    local verdict, answer = self.table.lookup_hashed(server.hash, server.name, now_ns)
    if answer.fresh == 0 and self.when_stale == "open" then
        return 1
    end
    if verdict == watchfire.BUSY then
        verdict = server.verdict or watchfire.UNKNOWN
    end
    server.verdict = verdict
    if verdict == watchfire.UP then
        return slow_start(self, tonumber(answer.since_ms), now_ms)
    end
    if verdict == watchfire.DOWN or verdict == watchfire.DRAINING then
        return 0
    end
    return 1
end

-- In panic every origin counts alike, but for those that drain.
local function weigh_in_panic(server)
    return server.verdict == watchfire.DRAINING and 0 or 1
end

-- The origin for the next request; nil if all of them drain.
function Pool:pick()
    local now_ns, now_ms = self.table.now_ns(), ngx.now() * 1000
    local servers, weights = self.servers, self.weights
    local usable, total = 0, 0
    for i = 1, #servers do
        local weight = weigh(self, servers[i], now_ns, now_ms)
        weights[i] = weight
        total = total + weight
        usable = usable + (weight > 0 and 1 or 0)
    end
    if usable < self.panic_below * #servers then
        total = 0
        for i = 1, #servers do
            weights[i] = weigh_in_panic(servers[i])
            total = total + weights[i]
        end
    end
    if total == 0 then
        return nil
    end
    local mark, chosen = math.random() * total, nil
    for i = 1, #servers do
        if weights[i] > 0 then
            chosen = servers[i]
            mark = mark - weights[i]
            if mark < 0 then
                break
            end
        end
    end
    return chosen
end

return Pool
