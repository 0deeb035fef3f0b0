mock_provider "aws" {}

variables {
  region            = "eu-west"
  members           = { a = "10.1.0.10", b = "10.1.16.10", c = "10.2.0.10" }
  here              = { a = 0, b = 1 }
  authority_member  = "a"
  subnet_ids        = ["subnet-1", "subnet-2"]
  security_group_id = "sg-1"
  ami_id            = "ami-1"
  bundle_url        = "https://files.example.com/meridian.tar.gz"
  bundle_sha256     = "0000000000000000000000000000000000000000000000000000000000000000"
  authority         = "https://10.1.0.10:9902"
  join_token        = "mrd1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.0000000000000000000000000000000000000000000000000000000000000000"
}

run "members_stand_where_all_were_told" {
  command = apply

  assert {
    condition     = { for name, one in aws_instance.member : name => "${one.private_ip} ${one.subnet_id}" } == { a = "10.1.0.10 subnet-1", b = "10.1.16.10 subnet-2" }
    error_message = "Address and subnet of each member."
  }

  assert {
    condition     = strcontains(aws_instance.member["b"].user_data, "a=https://10.1.0.10:2380,b=https://10.1.16.10:2380,c=https://10.2.0.10:2380")
    error_message = "Each member knows all."
  }

  assert {
    condition     = strcontains(aws_instance.member["a"].user_data, "meridian-pki.path") && !strcontains(aws_instance.member["b"].user_data, "meridian-pki.path")
    error_message = "One machine is the authority."
  }

  assert {
    condition     = alltrue([for one in aws_instance.member : one.root_block_device[0].encrypted && !one.root_block_device[0].delete_on_termination && one.disable_api_termination])
    error_message = "Disks are encrypted and outlive their machine."
  }
}

run "a_member_that_nobody_knows_is_refused" {
  command = plan
  variables { here = { d = 0 } }
  expect_failures = [var.here]
}
