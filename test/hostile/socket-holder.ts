/**
 * A process that opens connections and keeps them, whatever the other end does: a test's own would use up its files.
 * `node socket-holder.ts <port> <count> [<bytes to send first>]`; says `held <count>` once all are tried.
 */
import { connect } from 'node:net'

const [port, count, first] = process.argv.slice(2)
/** Few at a time: a listener's queue is not what is tested. */
const AT_ONCE = 200
/** One source address has 28 000 ports. */
const sourceOf = (index: number) => `127.0.1.${1 + (index % 4)}`

async function hold(index: number): Promise<void> {
  const socket = connect({
    host: '127.0.0.1',
    port: Number(port),
    localAddress: sourceOf(index),
    allowHalfOpen: true,
  })
  const { promise, resolve } = Promise.withResolvers<void>()
  socket.on('error', () => resolve()) // Refused or reset: it is one less to hold.
  socket.once('connect', () => {
    if (first) socket.write(first)
    else resolve()
  })
  socket.once('data', () => resolve()).once('end', () => resolve())
  await promise
}

const indexes = Array.from({ length: Number(count) }, (_, index) => index)
const next = indexes.values()
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (const index of next) await hold(index)
  }),
)
process.stdout.write(`held ${count}\n`)
