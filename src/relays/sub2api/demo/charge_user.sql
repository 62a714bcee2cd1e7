-- What is left of the user's balance. $1: user; $2: dollars charged.
update users set balance = balance - $2 where id = $1
