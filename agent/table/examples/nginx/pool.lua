-- A pool of origins balanced by the table. What each verdict means for a
-- request, also of a table that is stale or not there, is the library's one
-- rule (watchfire.h); here is what is a balancer's own: shares, and slow start.
--
--   panic_below     with a smaller share of usable origins than this all are
--                   used, but for what an operator took out
--   when_stale      "static": go on by the last verdicts; "open": use all
--   slow_start_ms   an origin that has just come up gets its share slowly

local watchfire = require "watchfire"

local Pool = {}
Pool.__index = Pool

-- servers: a list of { name = "origin's name", host = "address", port = n }.
function Pool.new(table_, servers, options)
    local names = {}
    for i = 1, #servers do
        names[i] = servers[i].name
    end
    return setmetatable({
        table = table_,
        servers = servers,
        weights = {},
        pool = table_.pool(names, {
            share_percent = math.floor((options.panic_below or 0.5) * 100 + 0.5),
            when_stale = options.when_stale,
        }),
        slow_start_ms = options.slow_start_ms or 0,
    }, Pool)
end

-- What an origin's share is that has been up since then: a tenth at first,
-- then growing evenly.
local function slow_start(self, server, now_ns, now_ms)
    local verdict, answer = self.table.lookup(server.name, now_ns)
    if verdict ~= watchfire.UP or answer.fresh == 0 then
        return 1
    end
    local up_ms = now_ms - tonumber(answer.since_ms)
    if up_ms >= self.slow_start_ms then
        return 1
    end
    return math.max(0.1, up_ms / self.slow_start_ms)
end

-- Sets the weights of those with this usage; gives their sum.
local function weigh(self, usages, wanted, slowly, now_ns, now_ms)
    local servers, weights, total = self.servers, self.weights, 0
    for i = 1, #servers do
        local weight = 0
        if usages[i - 1] == wanted then
            weight = slowly and slow_start(self, servers[i], now_ns, now_ms) or 1
        end
        weights[i] = weight
        total = total + weight
    end
    return total
end

-- The origin for the next request; nil if there is none to use.
function Pool:pick()
    local now_ns, now_ms = self.table.now_ns(), ngx.now() * 1000
    local servers, weights = self.servers, self.weights
    local usages, panic = self.pool.look(now_ns)
    local slowly = self.slow_start_ms > 0 and not panic
    local total = weigh(self, usages, watchfire.USE, slowly, now_ns, now_ms)
    if total == 0 then
        total = weigh(self, usages, watchfire.TRY_LAST, false, now_ns, now_ms)
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
