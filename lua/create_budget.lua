#!lua
-- create_budget: write a budget that does not exist yet; one that does is left as it is.
--
-- KEYS  1 the budget   2 the tenant's set of budget keys
-- ARGV  1 tenant   2 ledger id   3 scope   4 unit   5 allocated   6 overdraft limit
--       7 the budget's own overage policy, or ''
-- Answers
--   CREATED
--   EXISTS, tenant (or ''), allocated, remaining   nothing was changed but the set's membership
-- @include call

local row = redis.call('HMGET', KEYS[1], 'tenant_id', 'allocated', 'remaining')
if redis.call('EXISTS', KEYS[1]) == 1 then
  if row[1] == ARGV[1] then redis.call('SADD', KEYS[2], KEYS[1]) end
  return {'EXISTS', row[1] or '', row[2] or '', row[3] or ''}
end

redis.call('HSET', KEYS[1], 'ledger_id', ARGV[2], 'tenant_id', ARGV[1], 'scope', ARGV[3],
  'unit', ARGV[4], 'allocated', ARGV[5], 'remaining', ARGV[5], 'reserved', '0', 'spent', '0',
  'debt', '0', 'overdraft_limit', ARGV[6], 'is_over_limit', 'false', 'status', 'ACTIVE',
  'created_at', ms(now), 'updated_at', ms(now))
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'commit_overage_policy', ARGV[7]) end
redis.call('SADD', KEYS[2], KEYS[1])
return {'CREATED'}
