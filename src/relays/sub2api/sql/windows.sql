-- Single numbers out of accounts.extra, which has other things beside them: of a function that the administrator has made.
select w.id::bigint as id, w.windows::text as windows from relay_exporter_account_windows() w
