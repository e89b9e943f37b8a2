/** Law 6: an answer that was given whole (a manifest, a list) waits for its client no longer than a body does. */
import { connect } from 'node:net'
import { expect, it } from 'vitest'
import { answer } from '../../proxy/exchange.ts'
import { until } from '../support/wait.ts'
import { listen } from './listening.ts'

const GET = 'GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n'

it('is cut for a client that takes no byte of it within the idle time', async () => {
  // More than the kernel holds for one connection.
  await using one = await listen(
    async (exchange) => answer(exchange, 200, {}, Buffer.alloc(32 * 1024 * 1024)),
    {
      idleTimeoutMs: 300,
    },
  )
  const socket = connect(one.port, '127.0.0.1').pause()
  socket.on('error', () => undefined)
  socket.write(GET)

  await until(() => one.lines.length === 1, { what: 'the answer to be over', deadlineMs: 5000 })
  socket.destroy()
})

it('is not cut for a client that only takes its time before the next request', async () => {
  await using one = await listen(async (exchange) => answer(exchange, 200, {}, 'ok'), { idleTimeoutMs: 100 })
  const socket = connect(one.port, '127.0.0.1')
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk
  })
  const answers = () => text.split('200 OK').length - 1
  socket.write(GET)
  await until(() => answers() === 1, { what: 'the first answer' })
  const answeredAt = performance.now()
  await until(() => performance.now() - answeredAt > 400, { what: 'the idle time to have passed' })
  socket.write(GET)

  await until(() => answers() === 2, { what: 'the second answer' })
  expect(socket.destroyed).toBe(false)
  socket.destroy()
})
