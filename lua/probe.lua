#!lua
-- probe: write something, because that is what every operation of the ledger does. A full store, a
-- replica, a failed snapshot or a missing permission refuses it while PING still answers: for the
-- first line above Redis refuses such a script before it runs.
--
-- KEYS  1 the probe's own key
-- ARGV  1 how long it lives, ms
local lifetime = ARGV[1]

return redis.call('SET', KEYS[1], '1', 'PX', lifetime)
