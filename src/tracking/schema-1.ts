/**
 * The first schema, statement by statement. Both databases get the same tables and indexes; what SQL says differently in
 * the two is in `WORDS` and in the triggers that keep the totals.
 */
import type { DatabaseKind } from './database.ts'

const WORDS = {
  sqlite: { identity: 'integer primary key autoincrement', path: 'text', nullsFirst: '', nullsLast: '' },
  postgres: {
    identity: 'bigint generated always as identity primary key',
    // Compared by bytes, as SQLite does: pages go on where the last one ended, and a prefix is a range.
    path: 'text collate "C"',
    nullsFirst: 'nulls first',
    nullsLast: 'nulls last',
  },
} as const

/** Of which rows the totals are kept apart, and what is summed up. */
const GROUPED = ['state', 'verification_state', 'needs_attention', 'checksum_mismatch']
const SUMMED = ['tags', 'failing_tags', 'blobs_outstanding', 'bytes_outstanding']
const SUMMED_FROM = ['tags_count', 'failing_tags_count', 'blobs_outstanding', 'bytes_outstanding']

export function schema1(kind: DatabaseKind): string[] {
  const { identity, path, nullsFirst, nullsLast } = WORDS[kind]
  return [
    `create table tracked_repositories (
      id ${identity},
      path ${path} not null unique,
      state text not null default 'pending',
      retry_count bigint not null default 0,
      retry_at bigint,
      last_sync_failure text,
      last_synced_at bigint,
      created_at bigint not null,
      needs_attention bigint not null default 0,
      missing_on_primary bigint not null default 0,
      verification_state text not null default 'pending',
      verified_at bigint,
      verification_failure text,
      verification_checksum text,
      verification_checksum_mismatched text,
      checksum_mismatch bigint not null default 0,
      tags_count bigint not null default 0,
      failing_tags_count bigint not null default 0,
      blobs_outstanding bigint not null default 0,
      bytes_outstanding bigint not null default 0,
      inventory_at bigint,
      active_at bigint,
      priority bigint not null,
      change bigint not null default 1,
      lease_number bigint,
      lease_expires_at bigint,
      due_at bigint generated always as (
        case
          when needs_attention = 1 and state = 'failed' then null
          when state = 'pending' then 0
          when state = 'failed' then coalesce(retry_at, 0)
          when state = 'started' then lease_expires_at
        end
      ) stored
    )`,
    'create index tracked_repositories_by_state on tracked_repositories (state, path)',
    `create index tracked_repositories_needing_attention on tracked_repositories (path)
      where needs_attention = 1`,
    `create index tracked_repositories_due
      on tracked_repositories (priority, last_synced_at ${nullsFirst}, due_at, path)
      where due_at is not null`,
    `create index tracked_repositories_by_inventory
      on tracked_repositories (state, inventory_at ${nullsFirst})`,
    `create index tracked_repositories_by_activity
      on tracked_repositories (state, active_at desc ${nullsLast}, inventory_at, path)`,
    `create table failing_tags (
      repository_id bigint not null references tracked_repositories (id) on delete cascade,
      tag ${path} not null,
      digest text,
      kind text not null,
      message text not null,
      since bigint not null,
      primary key (repository_id, tag)
    )`,
    `create table events (
      sequence ${identity},
      id text not null unique,
      action text not null,
      repository ${path} not null,
      tag text,
      digest text,
      renamed_to text,
      received_at bigint not null
    )`,
    'create index events_by_repository on events (repository, sequence)',
    'create table cursors (name text primary key, value text not null)',
    'create table counters (name text primary key, value bigint not null)',
    `create table repository_totals (
      shard bigint not null,
      state text not null,
      verification_state text not null,
      needs_attention bigint not null,
      checksum_mismatch bigint not null,
      repositories bigint not null,
      ${SUMMED.map((column) => `${column} bigint not null,`).join(' ')}
      primary key (shard, ${GROUPED.join(', ')})
    )`,
    ...(kind === 'sqlite' ? sqliteTotals() : postgresTotals()),
  ]
}

const COLUMNS = `repository_totals (shard, ${[...GROUPED, 'repositories', ...SUMMED].join(', ')})`
const ADD_UP = `on conflict (shard, ${GROUPED.join(', ')}) do update set ${['repositories', ...SUMMED]
  .map((column) => `${column} = repository_totals.${column} + excluded.${column}`)
  .join(', ')}`

/** One writer at a time: one shard is enough. */
function sqliteTotals(): string[] {
  const add = (row: 'old' | 'new', sign: '' | '-') => {
    const values = [
      '0',
      ...GROUPED.map((column) => `${row}.${column}`),
      `${sign}1`,
      ...SUMMED_FROM.map((column) => `${sign}${row}.${column}`),
    ]
    return `insert into ${COLUMNS} values (${values.join(', ')}) ${ADD_UP};`
  }
  const counted = [...GROUPED, ...SUMMED_FROM].join(', ')
  return [
    `create trigger count_inserted after insert on tracked_repositories begin ${add('new', '')} end`,
    `create trigger count_deleted after delete on tracked_repositories begin ${add('old', '-')} end`,
    `create trigger count_updated after update of ${counted} on tracked_repositories
      begin ${add('old', '-')} ${add('new', '')} end`,
  ]
}

/**
 * A shard for each connection: no transaction waits for another's totals, so none can end in a deadlock over them.
 * Once a statement, not once a row: a thousand rows are a few sums.
 */
function postgresTotals(): string[] {
  const rows = (table: 'old_rows' | 'new_rows', sign: 1 | -1) =>
    `select ${[sign, ...GROUPED, ...SUMMED_FROM].join(', ')} from ${table}`
  const add = (changed: string) => `
    insert into ${COLUMNS}
    select pg_backend_pid(), ${GROUPED.join(', ')}, sum(sign), ${SUMMED.map((column) => `sum(sign * ${column})`).join(', ')}
    from (${changed}) as changed (sign, ${[...GROUPED, ...SUMMED].join(', ')})
    group by ${GROUPED.join(', ')}
    ${ADD_UP};`
  const body = (changed: string) => `begin ${add(changed)} return null; end`
  const trigger = (event: 'insert' | 'update' | 'delete', transition: string, changed: string) => [
    `create function count_${event} () returns trigger language plpgsql as $$ ${body(changed)} $$`,
    `create trigger count_${event} after ${event} on tracked_repositories referencing ${transition}
      for each statement execute function count_${event} ()`,
  ]
  return [
    ...trigger('insert', 'new table as new_rows', rows('new_rows', 1)),
    ...trigger('delete', 'old table as old_rows', rows('old_rows', -1)),
    ...trigger(
      'update',
      'old table as old_rows new table as new_rows',
      `${rows('old_rows', -1)} union all ${rows('new_rows', 1)}`,
    ),
  ]
}
