/** Requests sent ahead on one connection: each has its turn, and one whose turn never comes leaves nothing behind. */
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { expect, it } from 'vitest'
import { createBodySender } from '../../proxy/body.ts'
import { answer, writeHead } from '../../proxy/exchange.ts'
import { until } from '../support/wait.ts'
import { listen } from './listening.ts'

const GET = 'GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n'

it('answers requests that were sent ahead in their order', async () => {
  let served = 0
  await using one = await listen(async (exchange) => answer(exchange, 200, {}, `answer ${++served};`))
  const socket = connect(one.port, '127.0.0.1')
  socket.write(GET + GET + GET.replace('host: x', 'host: x\r\nconnection: close'))

  const all = await text(socket)
  expect(all.match(/answer \d/g)).toEqual(['answer 1', 'answer 2', 'answer 3'])
})

it('lets go of what it was sending when the client leaves before its turn', async () => {
  const body = createBodySender()
  const zeros = { read: async (buffer: Buffer, length: number) => buffer.fill(0, 0, length).length && length }
  let begun = 0
  let ended = 0
  await using one = await listen(async (exchange) => {
    begun++
    try {
      writeHead(exchange, 200, { 'content-length': '100000000' })
      await body.send(exchange, zeros, 0, 100_000_000)
    } finally {
      ended++
    }
  })
  const socket = connect(one.port, '127.0.0.1').pause()
  socket.on('error', () => undefined)
  socket.write(GET.repeat(3))
  await until(() => begun > 0, { what: 'the first body' })
  socket.destroy()

  await until(() => one.lines.length > 0, { what: 'the connection to be known as closed' })
  await until(() => ended === begun, { what: 'every body to be given up', deadlineMs: 3000 })
  body.close()
})

it('gives up a client that sends ahead without end, of which each request would be kept until its turn', async () => {
  const { promise: held, resolve: letGo } = Promise.withResolvers<void>()
  let begun = 0
  await using one = await listen(async (exchange) => {
    begun++
    await held
    answer(exchange, 200, {})
  })
  const socket = connect(one.port, '127.0.0.1')
  socket.on('error', () => undefined) // It is reset with requests on the way.
  socket.write(GET)
  await until(() => begun === 1, { what: 'the first' })
  const sending = setInterval(() => socket.writable && socket.write(GET.repeat(50)), 1)

  await until(() => socket.closed, { what: 'the site to hang up' })
  clearInterval(sending)
  letGo()
  expect(begun).toBe(1)
  expect(socket.bytesWritten).toBeLessThan(10_000 * GET.length)
})
