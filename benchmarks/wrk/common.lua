-- What all scripts share. wrk runs in this folder: dofile("common.lua").
--
-- Arguments behind `--`:  1 tenant   2 seed of this run's idempotency keys
--                         3 pause of each client between two requests, ms
--                         4 file of reservation ids, one a line, each used once (or none)
--
-- post(path, body)  makes every request: @KEY@ in the body is a fresh idempotency key, @ID@ in
--                   the path the next reservation id.
-- SUBJECT           the members of a body that say for whom

SUBJECT = '"subject":{"tenant":"@TENANT@","workspace":"production","agent":"summarizer"},'
  .. '"action":{"kind":"llm.completion","name":"openai:gpt-4o"}'

exhausted = false

local ids = {}
local count = 0

-- Keys look like the UUIDs that clients send; the count makes them unique within the run.
local random = math.random
local function key()
  return string.format('%04x%04x-%04x-4%03x-8%03x-%012x', random(0, 0xffff),
    random(0, 0xffff), random(0, 0xffff), random(0, 0xfff), random(0, 0xfff), count)
end

function post(path, body)
  local template
  function init(arguments)
    math.randomseed(tonumber(arguments[2]))
    local pause = tonumber(arguments[3])
    if pause > 0 then
      function delay() return pause end
    end
    if arguments[4] then
      for id in io.lines(arguments[4]) do ids[#ids + 1] = id end
    end
    -- The length of a request never changes: keys and ids have 36 characters each.
    local blank = string.rep('.', 36)
    body = string.gsub(body, '@TENANT@', arguments[1])
    wrk.headers['Content-Type'] = 'application/json'
    template = wrk.format('POST', path, nil, (string.gsub(body, '@KEY@', blank)))
    template = string.gsub(template, string.rep('%.', 36), '@KEY@')
  end

  function request()
    count = count + 1
    local id = ids[count]
    if not id and #ids > 0 then
      exhausted = true
      id = ids[#ids]
    end
    local fresh = {['@KEY@'] = key(), ['@ID@'] = id}
    return (string.gsub(template, '@%u+@', fresh))
  end
end

local threads = {}

function setup(thread) threads[#threads + 1] = thread end

-- The figures as one line of JSON, times in microseconds.
function done(summary, latency)
  io.write(string.format(
    '{"requests":%d,"micros":%d,"refused":%d,"broken":%d,"exhausted":%s,'
      .. '"p50":%d,"p99":%d,"max":%d}\n',
    summary.requests, summary.duration, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    tostring(threads[1]:get('exhausted') or false),
    latency:percentile(50), latency:percentile(99), latency.max))
end
