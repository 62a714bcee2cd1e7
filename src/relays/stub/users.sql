-- Everybody who has asked for something.
select distinct user from requests
