-- policy_names: a tenant's policies have different names.
--
-- name_taken(policies, policy_prefix, name, but)  whether a policy in the set, other than the one
--   of the id `but`, has the name. Others than us write policies, so no index can tell it.
local POLICIES_AT_ONCE = 500

local function name_taken(policies, policy_prefix, name, but)
  -- To decode a record takes much longer than to see that the name is nowhere in it. Only a name
  -- without signs that JSON can write in several ways can be looked for like that.
  local sought = not string.find(name, '[%c"\\/\128-\255]') and '"' .. name .. '"'
  local ids = redis.call('SMEMBERS', policies)
  for first = 1, #ids, POLICIES_AT_ONCE do
    local keys = {}
    for place = first, math.min(first + POLICIES_AT_ONCE - 1, #ids) do
      if ids[place] ~= but then keys[#keys + 1] = policy_prefix .. ids[place] end
    end
    for _, record in ipairs(#keys > 0 and redis.call('MGET', unpack(keys)) or {}) do
      if record and (not sought or string.find(record, sought, 1, true)) then
        local readable, policy = pcall(cjson.decode, record)
        if readable and type(policy) == 'table' and policy.name == name then return true end
      end
    end
  end
  return false
end
