/** Programs the kit starts tell why they fail, and never outlive their owner. */
import { describe, expect, it } from 'vitest'
import { ProgramError, runProgram, startProgram, waitForHttp, waitUntilReady } from './process.ts'
import { until } from './wait.ts'

const sh = (script: string) => startProgram('bash', ['-c', script])

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false // ESRCH: no such process.
  }
}

describe('programs', () => {
  it('tells what a program wrote when it ends before it is ready', async () => {
    await using program = await sh('echo "cannot bind: address in use" >&2; exit 3')

    const waiting = waitForHttp(program, 'http://127.0.0.1:1/')

    await expect(waiting).rejects.toThrow(/ended \(3\)[\s\S]*cannot bind: address in use/)
  })

  it('tells what a program wrote when it is not ready in time, and ends it', async () => {
    await using program = await sh('echo still thinking; exec sleep 1000')

    const waiting = waitUntilReady(program, 'an answer', 300, () => false)

    await expect(waiting).rejects.toThrow(/300 ms in vain for an answer[\s\S]*still thinking/)
    expect(isAlive(program.pid)).toBe(false)
  })

  it('names a program that is not installed', async () => {
    await expect(startProgram('no-such-program', [])).rejects.toThrow(/no-such-program/)
    await expect(runProgram('no-such-program', [])).rejects.toThrow(ProgramError)
  })

  it('ends a program with its owner, even one that ignores SIGTERM', async () => {
    const program = await sh('trap "" TERM; echo deaf; while :; do sleep 0.05; done')
    await until(() => program.logs().includes('deaf'), { what: 'the trap to be set' })

    expect(await program.stop({ deadlineMs: 100 })).toEqual({ code: null, signal: 'SIGKILL' })
  })

  it('ends a frozen program without waiting for the deadline', async () => {
    const program = await sh('exec sleep 1000')
    program.signal('SIGSTOP')
    const startedAt = performance.now()

    await program.stop({ deadlineMs: 20_000 })

    expect(performance.now() - startedAt).toBeLessThan(10_000)
    expect(isAlive(program.pid)).toBe(false)
  })

  it('keeps the end of endless output in bounded memory', async () => {
    await using program = await sh('head -c 3000000 /dev/zero | tr "\\0" x; echo; echo the end')
    await program.exited

    expect(program.logs().endsWith('the end\n')).toBe(true)
    expect(program.logs().length).toBeLessThan(300_000)
  })

  it('passes lines on whole, however they arrive', async () => {
    const lines: string[] = []
    await using program = await startProgram(
      'bash',
      ['-c', 'printf one; printf "\\ntw"; sleep 0.1; echo o'],
      {
        onLine: (line) => lines.push(line),
      },
    )
    await program.exited

    expect(lines).toEqual(['one', 'two'])
  })

  it('ends a command that takes too long, and says so', async () => {
    await expect(runProgram('sleep', ['1000'], { deadlineMs: 100 })).rejects.toThrow(/SIGKILL.*100 ms/)
  })

  it('keeps what the environment holds from programs', async () => {
    process.env['HTTP_PROXY'] = 'http://proxy.invalid:3128'
    try {
      const { stdout } = await runProgram('env', [])
      expect(stdout).not.toContain('proxy.invalid')
    } finally {
      delete process.env['HTTP_PROXY']
    }
  })

  it('hands node on the folder of what it has compiled, which vitest was given', async () => {
    const { stdout } = await runProgram('env', [])

    expect(process.env['NODE_COMPILE_CACHE']).toBeTruthy()
    expect(stdout).toContain(`NODE_COMPILE_CACHE=${process.env['NODE_COMPILE_CACHE']}\n`)
  })
})
