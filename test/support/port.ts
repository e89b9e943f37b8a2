/**
 * Ports for programs that cannot bind port 0 and for servers that must come back on the port they had.
 * They are taken from below the kernel's ephemeral range: a port from inside it may be given to any outgoing
 * connection while its server is down. Two processes can still pick the same one, so starters retry.
 */
import { once } from 'node:events'
import { createServer } from 'node:net'

const FIRST = 12_000
const COUNT = 20_000 // Up to 31 999; Linux begins at 32 768.
const handedOut = new Set<number>()

/** A port nobody listens on now, never given twice by this process. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = FIRST + Math.floor(Math.random() * COUNT)
    if (handedOut.has(port)) continue
    handedOut.add(port)
    if (await isFree(port)) return port
  }
  throw new Error(`no free port between ${FIRST} and ${FIRST + COUNT - 1} in 200 attempts`)
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  try {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return true
  } catch {
    return false // Taken; whatever else is wrong with it, it is not free for us.
  } finally {
    server.close()
  }
}

/** Runs `start` with a free port, again with another one when the port was taken in between (at most 5 times). */
export async function onFreePort<T>(start: (port: number) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(await freePort())
    } catch (error) {
      if (attempt === 5 || !/address already in use|EADDRINUSE/i.test(String(error))) throw error
    }
  }
}
