/** A relay's log in a folder of its own, with a clock that the test moves. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Notice } from '../../../replicator/notification.ts'
import {
  openRelayLog,
  type RelayLog,
  type RelayLogDeps,
  type RelayLogOptions,
} from '../../../replicator/relay/log.ts'
import type { LogEntry } from '../../../replicator/relay/log-format.ts'
import type { LogRecord } from '../../../replicator/relay/page.ts'
import { createLogger } from '../../../src/log.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import { parseRepositoryName, parseTag } from '../../../src/oci/reference.ts'

export const ALL = { limitRecords: Number.MAX_SAFE_INTEGER, limitBytes: Number.MAX_SAFE_INTEGER }
export const PAGE = { limitRecords: 1000, limitBytes: 512 * 1024 }
const DIGEST = digestOf(Buffer.from('content'))

export function noticeOf(id: string, repository = 'team/app'): Notice {
  return {
    id,
    action: 'push',
    repository: parseRepositoryName(repository) ?? expect.unreachable(),
    tag: parseTag('v1'),
    digest: DIGEST,
    renamedTo: undefined,
  }
}

export interface OpenOptions extends Partial<RelayLogOptions> {
  readonly deps?: Partial<RelayLogDeps>
  readonly lines?: string[]
}

/** Opened without a timer: log time is saved when the test says so. */
export function openLog(folder: string, { deps, lines, ...options }: OpenOptions = {}): Promise<RelayLog> {
  return openRelayLog(
    folder,
    { retentionAgeMs: Number.MAX_VALUE, retentionBytes: 1024 ** 3, touchEveryMs: 0, ...options },
    {
      log: createLogger({ destination: { write: (line) => void lines?.push(line) } }),
      metrics: { recorded: () => {} },
      ...deps,
    },
  )
}

export function recordOf({ text }: LogEntry): LogRecord {
  return JSON.parse(text) as LogRecord
}

/** `<number> <event id>` of all that can be read, page by page. */
export async function contentOf(log: RelayLog, limits = PAGE): Promise<string[]> {
  const content: string[] = []
  for (let after = log.first - 1; after < log.last; ) {
    const entries = (await log.read(after, limits)) ?? expect.unreachable(`nothing after ${after}`)
    expect(entries.length).toBeGreaterThan(0)
    for (const entry of entries) {
      const record = recordOf(entry)
      expect([record.number, entry.number]).toEqual([after + 1, after + 1])
      content.push(`${record.number} ${record.notice.id}`)
      after += 1
    }
  }
  return content
}

export async function segmentsOf(folder: string): Promise<string[]> {
  return (await readdir(folder))
    .filter((name) => name.endsWith('.log'))
    .sort()
    .map((name) => join(folder, name))
}

export async function newestSegment(folder: string): Promise<string> {
  return (await segmentsOf(folder)).at(-1) ?? expect.unreachable('no segment')
}

/** Writes a changed copy over a file. */
export async function damage(path: string, change: (bytes: Buffer) => Buffer): Promise<void> {
  await writeFile(path, change(await readFile(path)))
}
