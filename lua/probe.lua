#!lua
-- probe: write something, because that is what every operation of the ledger does. A full store, a
-- replica, a failed snapshot or a missing permission refuses it while PING still answers: for the
-- first line above Redis refuses such a script before it runs.
local probed = unpack(KEYS)
local kept_ms = unpack(ARGV)

return redis.call('SET', probed, '1', 'PX', kept_ms)
