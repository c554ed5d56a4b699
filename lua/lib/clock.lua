-- clock: this store's time, by which every script goes.
--
-- now        epoch ms
-- ms(value)  a number of milliseconds as text
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function ms(value) return string.format('%.0f', value) end
