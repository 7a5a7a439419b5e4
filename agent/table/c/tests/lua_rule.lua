-- The cases of rule.txt through the Lua files: run by nginx, which names the
-- table, the library and the cases. Says where they differ, then how many
-- there were.

local watchfire = require "watchfire"

local USAGES = {
    use = watchfire.USE, last = watchfire.TRY_LAST, ["not"] = watchfire.DO_NOT_USE }
local TIMES = { fresh = 2000, stale = 2 ^ 60, none = 2000 }

local there = assert(watchfire.open(ngx.var.wf_table, ngx.var.wf_library))
local nowhere = watchfire.open_when_there("/nonexistent/table", ngx.var.wf_library)

local function is_as_expected(words)
    local asked = words[2] == "none" and nowhere or there
    local now_ns, when_stale = TIMES[words[2]], words[3]
    if words[1] == "one" then
        return asked.use(words[4], now_ns, when_stale) == USAGES[words[5]]
    end
    local names, expected = {}, {}
    for i = 7, #words do
        local name, usage = words[i]:match("^(.-)=(.*)$")
        names[#names + 1], expected[#expected + 1] = name, USAGES[usage]
    end
    local pool = asked.pool(names, {
        at_least = tonumber(words[4]),
        share_percent = tonumber(words[5]),
        when_stale = when_stale,
    })
    local usages, panic = pool.look(now_ns)
    local same = panic == (words[6] == "panic")
    for i = 1, #expected do
        same = same and usages[i - 1] == expected[i]
    end
    return same
end

local count = 0
for line in io.lines(ngx.var.wf_cases) do
    local words = {}
    for word in line:gmatch("%S+") do
        words[#words + 1] = word
    end
    count = count + 1
    if not is_as_expected(words) then
        ngx.print("differs: ", line, "\n")
    end
end
ngx.print(count, " cases")
