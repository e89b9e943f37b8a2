/** Clients on bare sockets that do what no HTTP client does, and what a site still holds of them afterwards. */
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { expect } from 'vitest'
import { createStorePaths } from '../../src/store/paths.ts'
import { spoolsOf } from '../e2e/store-files.ts'
import type { GeoRegistry } from '../support/geo-registry.ts'
import { until } from '../support/wait.ts'

/** A client that never closes its side, whatever the server says: a connection the server leaves half open stays so. */
export interface StubbornClient extends Disposable {
  readonly socket: Socket
  received(): string
  /** The server has said that it sends no more. */
  readonly isEnded: boolean
}

export interface StubbornOptions {
  /** Takes one byte at a time, the next one after `takeByte` was called. Default: takes all. */
  readonly byBytes?: boolean
}

export async function openStubborn(port: number, options: StubbornOptions = {}): Promise<StubbornClient> {
  const chunks: string[] = []
  let isEnded = false
  const keep = (bytes: Uint8Array) => void chunks.push(Buffer.from(bytes).toString('latin1'))
  const socket = connect({
    host: '127.0.0.1',
    port,
    allowHalfOpen: true,
    noDelay: true,
    ...(options.byBytes && {
      onread: {
        buffer: Buffer.alloc(1),
        callback(length: number, bytes: Uint8Array) {
          keep(bytes.subarray(0, length))
          return false
        },
      },
    }),
  })
  if (!options.byBytes) socket.on('data', keep)
  socket.on('error', () => undefined) // A reset; 'close' follows.
  for (const event of ['end', 'close']) {
    socket.once(event, () => {
      isEnded = true
    })
  }
  await once(socket, 'connect')
  return {
    socket,
    received: () => chunks.join(''),
    get isEnded() {
      return isEnded
    },
    [Symbol.dispose]: () => void socket.destroy(),
  }
}

/** How many accepted connections a process of this machine holds on a port, half open ones among them. */
export async function connectionsOn(port: number): Promise<number> {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const table = await readFile('/proc/net/tcp', 'utf8')
  return table.split('\n').filter((line) => {
    const [, address, , state, , , , , , inode] = line.trim().split(/\s+/)
    // 0A: listens. Without an inode the kernel alone still knows of it.
    return address === local && state !== '0A' && inode !== '0'
  }).length
}

export interface Holdings {
  readonly connections: number
  /** Open files below the site's root. A published blob may be open once: the store keeps those that are asked for. */
  readonly files: readonly string[]
  readonly spools: readonly string[]
  /** Requests and fills under way, by the site's own word. */
  readonly underWay: number
}

/** What a site holds now on behalf of clients. */
export async function holdingsOf(site: GeoRegistry): Promise<Holdings> {
  const gauges = /^(?:registry_http_in_flight_requests|geo_registry_fills_in_flight)(?:\{.*\})? (\d+)$/gm
  const underWay = [...(await site.metrics()).matchAll(gauges)].map(([, value]) => Number(value))
  return {
    connections: await connectionsOn(site.port),
    files: openBelow(site.root, await site.openFiles()),
    spools: await spoolsOf(site.root),
    underWay: underWay.reduce((total, value) => total + value, 0),
  }
}

function openBelow(root: string, open: readonly string[]): string[] {
  const blobs = createStorePaths(root).blobs
  const isKept = (path: string, index: number) => path.startsWith(blobs) && open.indexOf(path) === index
  return open.filter((path, index) => path.startsWith(root) && !isKept(path, index)).toSorted(byCodeUnits)
}

const byCodeUnits = (one: string, other: string) => (one < other ? -1 : Number(one > other))

/**
 * Within `deadlineMs` (15 s) the site is left with nothing beyond what it held `before`. Less is well: a folder that was
 * being synced for an earlier test may have been open then.
 */
export async function expectNothingLeft(
  site: GeoRegistry,
  before: Holdings,
  deadlineMs = 15_000,
): Promise<void> {
  await until(
    async () => {
      const held = await holdingsOf(site)
      const more = (now: readonly string[], then: readonly string[]) =>
        now.filter((one) => !then.includes(one))
      expect({
        ...held,
        files: more(held.files, before.files),
        spools: more(held.spools, before.spools),
      }).toEqual({ ...before, files: [], spools: [] })
      return true
    },
    { what: 'the site to hold nothing of clients that are gone', deadlineMs, everyMs: 100 },
  )
}
