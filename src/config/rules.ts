/**
 * What settings mean together: which exclude or need each other, and whether the files they name are what they should
 * be. Every rule looks only at settings that are there and valid by themselves, so that all of them can run on a faulty
 * configuration and report at once.
 */
import { formatAddress, isLoopback, isWildcard } from './addresses.ts'
import { checkFile, checkFolder, checkPair, FileFault } from './files.ts'
import { createJudging, type Judging } from './judging.ts'
import { judgeFollowing, judgeRelay } from './relay-rules.ts'
import { SETTING_PATHS, type SettingPath, settingAt, type Values } from './settings.ts'
import { relaySettingsIn, type Side, sideOf } from './sides.ts'
import type { Fault, Source } from './source.ts'

/**
 * Every contradiction, missing setting and unusable file of `values`, which come from `source`. `wanted`: whose
 * configuration it has to be; by default whose it is.
 */
export function contradictions(source: Source, values: Partial<Values>, wanted?: Side): readonly Fault[] {
  if (!source.complete) return [] // What the file would have said is unknown; most would be false alarms.
  const judging = createJudging(source, values)
  const side = sideOf(source)
  if (wanted !== undefined && wanted !== side) {
    // What else is wrong with it would be told by the wrong side's rules.
    wrongSide(judging, wanted)
    return judging.faults
  }
  judging.needs(
    SETTING_PATHS.filter((path) => settingAt(path).required),
    '',
  )
  judging.notBoth('http.admin.token', 'http.admin.tokenfile')
  judging.notBoth('upstream.auth.password', 'upstream.auth.passwordfile')
  judging.notBoth('replication.notifications.secret', 'replication.notifications.secretfile')
  judging.together('upstream.tls.certificatefile', 'upstream.tls.keyfile')
  if (side === 'site') judgeSite(judging)
  adminListener(judging)
  upstreamCredential(judging)
  if (side === 'site') callers(judging)
  if (side === 'site') replication(judging)
  if (side === 'site') judgeFollowing(judging)
  else judgeRelay(judging)
  files(judging)
  return judging.faults
}

function wrongSide({ source, report }: Judging, wanted: Side): void {
  const [mark] = relaySettingsIn(source)
  if (wanted === 'relay') {
    report(
      'relay.sites',
      'missing; without it this is the configuration of a site (geo-registry serve). A relay names the sites that may read its log: [{ name: tokyo, tokenfile: /etc/geo-registry/tokyo.token }]',
    )
  } else if (mark !== undefined) {
    report(
      mark,
      'makes this the configuration of a relay: run geo-registry relay with it, or give this site a file of its own',
      source.given.get(mark)?.origin,
    )
  }
}

function judgeSite({ values, given, needs, notBoth, together, apart }: Judging): void {
  notBoth('http.secret', 'http.secretfile')
  notBoth('tracking.postgres.url', 'tracking.postgres.urlfile')
  notBoth('redis.url', 'redis.urlfile')
  together('http.tls.certificate', 'http.tls.key')
  const open = values['http.addr']
  if (open && isWildcard(open) && !given('http.host')) {
    needs(['http.host'], ', since http.addr listens on every address and names none that clients could use')
  }
  apart(['http.addr', 'http.admin.addr', 'http.events.addr'])
}

function adminListener({ values, given, needs }: Judging): void {
  const admin = values['http.admin.addr']
  if (admin && !isLoopback(admin) && !given('http.admin.token') && !given('http.admin.tokenfile')) {
    needs(
      ['http.admin.tokenfile'],
      `, since http.admin.addr ${formatAddress(admin)} can be reached from elsewhere`,
    )
  }
}

function upstreamCredential({ source, given, has, needs, refuses, report }: Judging): void {
  if (!has('upstream.auth')) return
  const minted: SettingPath[] = ['upstream.auth.keyfile', 'upstream.auth.issuer', 'upstream.auth.service']
  const login: SettingPath[] = [
    'upstream.auth.username',
    'upstream.auth.password',
    'upstream.auth.passwordfile',
    'upstream.auth.realm',
  ]
  if (minted.some(given)) {
    refuses(login, 'expected either keyfile, issuer and service, or username and password, not both')
    needs(minted, ', beside the other settings of upstream.auth')
  } else if (login.some(given)) {
    needs(['upstream.auth.username'], ', beside the password')
    if (!given('upstream.auth.password')) needs(['upstream.auth.passwordfile'], ', beside the username')
  } else {
    report(
      'upstream.auth',
      'empty; expected keyfile, issuer and service, or username and password, or no such section',
      source.sections.get('upstream.auth'),
    )
  }
}

function callers({ source, values, given, has, needs, report }: Judging): void {
  // A client certificate opens the primary's door as much as a password does.
  const hasCredential = has('upstream.auth') || given('upstream.tls.certificatefile')
  if (has('auth.token') === has('auth.none')) {
    report('auth', 'expected exactly one of auth.token and auth.none')
  } else if (has('auth.token')) {
    needs(['auth.token.realm', 'auth.token.service', 'auth.token.issuer'], '')
    if (!given('auth.token.rootcertbundle') && !given('auth.token.jwks')) {
      report('auth.token', 'expected rootcertbundle or jwks: the keys that sign tokens')
    }
  } else if (hasCredential && values['auth.none.public'] !== true) {
    report(
      'auth.none',
      'would show everybody what the credential of this site can read; expected auth.token, or public: true if that is meant',
      source.sections.get('auth.none'),
    )
  }
}

function replication({ values, given, has, needs }: Judging): void {
  const secret = given('replication.notifications.secret') || given('replication.notifications.secretfile')
  if (given('http.events.addr') && !secret) {
    needs(['replication.notifications.secretfile'], ', since http.events.addr is set')
  }
  if (values['replication.enabled'] === true && has('auth.token') && !has('upstream.auth')) {
    needs(['upstream.auth.keyfile'], ', since replication.enabled is true and the site has to read by itself')
  }
}

function files({ source, values, report }: Judging): void {
  const attempt = (path: SettingPath, check: () => void) => {
    try {
      check()
    } catch (error) {
      if (!(error instanceof FileFault)) throw error
      report(path, error.message, source.given.get(path)?.origin)
      return false
    }
    return true
  }
  const usable = new Map<SettingPath, string>()
  for (const path of SETTING_PATHS) {
    const { file } = settingAt(path)
    const name = values[path]
    if (file === undefined || typeof name !== 'string') continue
    if (attempt(path, () => checkFile(file, name))) usable.set(path, name)
  }
  const pair = (certificate: SettingPath, key: SettingPath) => {
    const [certificateFile, keyFile] = [usable.get(certificate), usable.get(key)]
    if (certificateFile && keyFile) attempt(key, () => checkPair(certificateFile, keyFile))
  }
  pair('http.tls.certificate', 'http.tls.key')
  pair('upstream.tls.certificatefile', 'upstream.tls.keyfile')
  pair('relay.tls.certificate', 'relay.tls.key')
  const root = values['storage.filesystem.rootdirectory']
  if (root) attempt('storage.filesystem.rootdirectory', () => checkFolder(root))
}
