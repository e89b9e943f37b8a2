/** Rows of one statement: ten columns of so many stay under SQLite's 32766 parameters and Postgres' 65535. */
export const CHUNK_ROWS = 1000

export function* chunksOf<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let start = 0; start < items.length; start += CHUNK_ROWS) yield items.slice(start, start + CHUNK_ROWS)
}
