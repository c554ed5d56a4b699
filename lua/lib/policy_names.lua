-- policy_names: a tenant's policies have different names.
--
-- name_taken(policies, policy_prefix, name, but)  whether a policy in the set, other than the one
--   of the id `but`, has the name. Others than us write policies, so no index can tell it.
local function name_taken(policies, policy_prefix, name, but)
  for _, id in ipairs(redis.call('SMEMBERS', policies)) do
    if id ~= but then
      local readable, policy = pcall(cjson.decode, redis.call('GET', policy_prefix .. id) or '')
      if readable and type(policy) == 'table' and policy.name == name then return true end
    end
  end
  return false
end
