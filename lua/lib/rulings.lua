-- rulings: the policies by which the server has settled a call's terms are those that are stored.
-- ledger/rulings.py says why nothing else has to be compared.
--
-- Of the script: policies (the tenant's set of ids), policies_known (how many there were),
-- policy_count (of records that could govern), policy_until (from when on another may; '' for
-- never).
-- policies_changed(keys_after, arguments_after)  whether the server must read them again; the
--   records' keys, and the records as they were read ('' for none), follow behind these places
local function policies_changed(keys_after, arguments_after)
  if redis.call('SCARD', policies) ~= tonumber(policies_known) then return true end
  if policy_until ~= '' and now >= tonumber(policy_until) then return true end
  for place = 1, tonumber(policy_count) do
    local stored = redis.call('GET', KEYS[keys_after + place]) or ''
    if stored ~= ARGV[arguments_after + place] then return true end
  end
  return false
end
