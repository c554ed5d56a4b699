-- call: what every script does first.
--
-- now                 this store's clock, ms
-- credential_stale()  whether the key or tenant record is no longer the one that the server
--                     verified, or the key has lapsed since; the server then asks again.
--                     KEYS[1] key record, KEYS[2] tenant record; ARGV[1] and ARGV[2] as they
--                     were read ('' for no key, for no tenant record), ARGV[3] the key's last
--                     valid ms ('' for never).
-- guarded()           what the tenant's status answers to a mutation, if anything: ARGV[5] is
--                     OPEN, CLOSED or UNREADABLE.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function ms(value) return string.format('%.0f', value) end

local function credential_stale()
  if ARGV[1] ~= '' then
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return true end
    if ARGV[3] ~= '' and now > tonumber(ARGV[3]) then return true end
  end
  return (redis.call('GET', KEYS[2]) or '') ~= ARGV[2]
end

local function guarded()
  if ARGV[5] == 'OPEN' then return nil end
  return {'ERROR', ARGV[5] == 'CLOSED' and 'TENANT_CLOSED' or 'TENANT_UNREADABLE'}
end
